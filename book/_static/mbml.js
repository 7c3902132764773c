// Entries of a bibliography carry a role that ARIA has withdrawn; in a list they are list items.
document.addEventListener("DOMContentLoaded", () => {
  for (const entry of document.querySelectorAll(".citation-list [role=doc-biblioentry]"))
    entry.setAttribute("role", "listitem");
});

// A picture that scrolls sideways can be reached with the Tab key, while it does scroll.
function reachable() {
  for (const box of document.querySelectorAll(".mbml-picture, figure.align-default"))
    if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
}
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
