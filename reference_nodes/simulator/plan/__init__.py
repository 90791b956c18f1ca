"""DSD-Si: plan a deployment of distributed speculative decoding before building it.

The role machines of :mod:`dsdproto`, unchanged, on a virtual clock, with models in place of backends::

    from reference_nodes.simulator.plan import load, run

    report = run(load("edge-cloud", ["workload.rate=4"]))
    print(report["throughput.tokens_per_second"])
"""

from reference_nodes.simulator.plan.loader import gallery, load, parse
from reference_nodes.simulator.plan.report import Report, text_of
from reference_nodes.simulator.plan.run import run
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.schema import ScenarioError

__all__ = ["Report", "Scenario", "ScenarioError", "gallery", "load", "parse", "run", "text_of"]
