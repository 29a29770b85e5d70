"use client";

import { useSyncExternalStore } from "react";

/** Resolve tokens of `tokens.css` to colours that a canvas understands, such as `rgb(29, 95, 191)`.
 *
 * A custom property alone would read `light-dark(…)`; an element's colour is what it comes to.
 */
export function resolveColours<Name extends string>(names: readonly Name[]): Record<Name, string> {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = {} as Record<Name, string>;
  for (const name of names) {
    probe.style.color = `var(${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** `light` or `dark`, as the page is shown; it changes with the system and with the page's switch. */
export function useTheme(): "light" | "dark" {
  return useSyncExternalStore(subscribe, shown, () => "light");
}

/** Choose how pages are shown; `null` follows the system. */
export function chooseTheme(theme: "light" | "dark" | null): void {
  if (theme === null) {
    localStorage.removeItem("theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  }
}

function shown(): "light" | "dark" {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function subscribe(changed: () => void): () => void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const page = new MutationObserver(changed);
  system.addEventListener("change", changed);
  page.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  return () => {
    system.removeEventListener("change", changed);
    page.disconnect();
  };
}
