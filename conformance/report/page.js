"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);

  // The theme follows the system until the button is used.
  const theme = one("#theme");
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  theme.hidden = false;
  label();

  // The filter of the list of cases.
  const form = one("#filter"), find = one("#find"), rung = one("#rung"), section = one("#section");
  const boxes = all("input[name=verdict]"), lines = all("table.cases tbody tr");
  const texts = new Map(lines.map((line) => [line, line.querySelector("th").textContent.toLowerCase()]));
  const cites = new Map(lines.map((line) => [line, new Set(line.dataset.clauses.split(" "))]));
  const apply = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const line of lines) {
      const sections = line.dataset.sections.split(" ");
      line.hidden = !(verdicts.has(line.dataset.verdict)
        && (!rung.value || line.dataset.rung === rung.value)
        && (!section.value || sections.includes(section.value))
        && words.every((word) => cites.get(line).has(word) || texts.get(line).includes(word)));
      shown += !line.hidden;
    }
    one("#shown").value = `${shown} of ${lines.length} cases`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;
  apply();
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-section], a[data-clause]");
    if (!link) return;
    if (dialog.open) dialog.close();
    rung.value = "";
    find.value = link.dataset.clause ?? "";
    section.value = link.dataset.section ?? "";
    for (const box of boxes) box.checked = !link.dataset.verdict || box.value === link.dataset.verdict;
    apply();
  });

  // A clause opens where one is; without script its link leads to the list of clauses.
  const dialog = one("#clause-dialog"), body = one("#clause-body");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.clause");
    const clause = link && document.getElementById(link.hash.slice(1));
    if (!clause || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    body.replaceChildren(...[...clause.children].map((child) => child.cloneNode(true)));
    if (!dialog.open) dialog.showModal();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // What a link leads to is opened.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Commands can be copied with one click.
  for (const command of all("code.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    command.after(button);
  }
})();
