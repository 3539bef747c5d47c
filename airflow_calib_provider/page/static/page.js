// Inside of Airflow's UI the page is in a frame: it follows Airflow's switch for light and dark, and its links to
// Airflow's pages move the UI around it. Alone in a tab it is a page as any other.
"use strict";

(() => {
  const root = document.documentElement;
  let outside = null;
  try {
    if (window.parent !== window && window.parent.document) outside = window.parent;
  } catch {
    outside = null; // a frame of another site
  }

  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const dark = outside ? outside.document.documentElement.classList.contains("dark") : preferred.matches;
    root.dataset.theme = dark ? "dark" : "light";
  };
  follow();
  if (outside) {
    const watch = new MutationObserver(follow);
    watch.observe(outside.document.documentElement, { attributes: true, attributeFilter: ["class"] });
    window.addEventListener("pagehide", () => watch.disconnect());
  } else {
    preferred.addEventListener("change", follow);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow]");
    if (!link || !outside || event.defaultPrevented) return;
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const url = new URL(link.href);
    outside.history.pushState({}, "", url.pathname + url.search + url.hash);
    outside.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  });
})();
