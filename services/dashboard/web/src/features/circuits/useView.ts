"use client";

import { useCallback, useEffect, useRef, useState } from "react";

import { useUrlState } from "@/ui/url";

import { readView, writeView, type ViewState } from "./viewState";

const QUIET = 250;

/** The state of the view, kept in the address: at once on the page, and there as soon as it rests. */
export function useView(start: ViewState): [ViewState, (changes: Partial<ViewState>) => void] {
  const [query, setUrl] = useUrlState();
  const [state, setState] = useState(() => readView(query, start));
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const latest = useRef(state);
  const change = useCallback(
    (changes: Partial<ViewState>) => {
      latest.current = { ...latest.current, ...changes };
      setState(latest.current);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => setUrl(writeView(latest.current, start)), QUIET);
    },
    [setUrl, start],
  );
  useEffect(() => {
    const back = () => {
      latest.current = readView(new URLSearchParams(window.location.search), start);
      setState(latest.current);
    };
    window.addEventListener("popstate", back);
    return () => {
      window.removeEventListener("popstate", back);
      clearTimeout(timer.current);
    };
  }, [start]);
  return [state, change];
}
