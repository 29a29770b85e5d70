"use client";

import { useEffect, useRef } from "react";

import type { JobEvent } from "@/api/jobs";
import { figure } from "@/ui/format";

import styles from "./JobLog.module.css";

/** What happened to a job, a line each; it stays at its end while one looks there. */
export function JobLog({ events }: { events: readonly JobEvent[] }) {
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    const element = box.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [events]);
  if (events.length === 0) return <p className={styles.none}>Nothing has happened yet.</p>;
  return (
    <div
      ref={box}
      className={styles.log}
      role="log"
      aria-label="What happened"
      // It scrolls by itself, which a keyboard must be able to do as well.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      onScroll={({ currentTarget: box }) => {
        atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
      }}
    >
      <ol>
        {events.map((event) => (
          <li key={event.id} data-type={event.type}>
            <time dateTime={event.at}>{new Date(event.at).toLocaleTimeString("en-GB")}</time>
            <span className={styles.type}>{event.type.replaceAll("_", " ")}</span>
            <span className={styles.said}>{details(event)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** The details of an event, in a line. */
export function details({ type, body }: JobEvent): string {
  if (type === "progress") {
    const { stage, done, total, figures } = body as {
      stage: string;
      done: number;
      total: number;
      figures?: Record<string, number>;
    };
    const measured = Object.entries(figures ?? {}).map(([name, value]) => `${name} ${figure(value)}`);
    return [`${stage} ${done}${total > 0 ? `/${total}` : ""}`, ...measured].join("  ");
  }
  const { problem, fix, ...rest } = body;
  const first = [problem, fix].filter((text) => typeof text === "string").map((text) => `${text}.`);
  const others = Object.entries(rest)
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
  return [...first, ...others].join("  ");
}
