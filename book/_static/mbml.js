// Entries of a bibliography carry a role that ARIA has withdrawn; in a list they are list items.
document.addEventListener("DOMContentLoaded", () => {
  for (const entry of document.querySelectorAll(".citation-list [role=doc-biblioentry]"))
    entry.setAttribute("role", "listitem");
});

// What opens a part of the table of contents is an arrow without a word.
document.addEventListener("DOMContentLoaded", () => {
  for (const page of document.querySelectorAll("li.has-children:has(> details)")) {
    const name = page.querySelector("a").textContent.trim();
    page.querySelector("summary").setAttribute("aria-label", `Pages under ${name}`);
  }
});

// A picture that scrolls sideways can be reached with the Tab key, while it does scroll.
function reachable() {
  for (const box of document.querySelectorAll(".mbml-picture, figure.align-default"))
    if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
}
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);

// A displayed formula wider than its column is set smaller, down to four fifths; wider ones scroll.
function fitted() {
  for (const formula of document.querySelectorAll(".bd-article mjx-container[display=true]")) {
    formula.dataset.size ??= parseFloat(formula.style.fontSize) || 100;
    formula.style.fontSize = `${formula.dataset.size}%`;
    const share = formula.clientWidth / formula.scrollWidth;
    if (share < 1) formula.style.fontSize = `${formula.dataset.size * Math.max(0.99 * share, 0.8)}%`;
  }
}
window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(fitted));
window.addEventListener("resize", fitted);
