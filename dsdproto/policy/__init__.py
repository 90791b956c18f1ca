"""Decisions that are not protocol: pure functions and small estimators, shared by live nodes and the simulator."""
