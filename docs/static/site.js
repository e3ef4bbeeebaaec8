// Below each hit Sphinx shows lines of the page, which it fetches; from a disk a browser refuses that.
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol !== "file:";

// What scrolls sideways can be scrolled by the keys, too.
function letKeysScroll() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .cell_output, .formula")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

addEventListener("load", letKeysScroll);
addEventListener("resize", letKeysScroll);
