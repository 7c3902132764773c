// Entries of a bibliography carry a role that ARIA has withdrawn; in a list they are list items.
document.addEventListener("DOMContentLoaded", () => {
  for (const entry of document.querySelectorAll(".citation-list [role=doc-biblioentry]"))
    entry.setAttribute("role", "listitem");
});
