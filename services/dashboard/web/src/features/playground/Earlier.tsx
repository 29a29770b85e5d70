"use client";

import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { figure } from "@/ui/format";
import { Section } from "@/ui/Page";
import { Table } from "@/ui/Table";

import { difference } from "./difference";
import type { Play } from "./play";
import styles from "./Playground.module.css";

interface EarlierProps {
  plays: readonly Play[];
  shown: number;
  onShow: (key: number) => void;
}

/** What was played since the page was opened, to compare prompts under one policy. */
export function Earlier({ plays, shown, onShow }: EarlierProps) {
  return (
    <Section title="Played on this page">
      <Table
        caption="Played on this page"
        rows={plays}
        id={({ key }) => String(key)}
        selected={({ key }) => key === shown}
        columns={[
          { head: "Prompt", wide: true, cell: ({ prompt }) => <span className={styles.prompt}>{prompt}</span> },
          { head: "Policy", minor: true, cell: ({ policy }) => policy },
          {
            head: "Score",
            number: true,
            cell: ({ steered: { record } }) =>
              record?.score === undefined || record.score === null ? "–" : figure(record.score),
          },
          {
            head: "Threshold",
            number: true,
            cell: ({ steered: { record } }) =>
              record?.threshold === undefined || record.threshold === null ? "–" : figure(record.threshold),
          },
          {
            head: "Decision",
            cell: ({ steered: { record }, problem }) =>
              problem !== null ? (
                <Badge tone="bad">failed</Badge>
              ) : record === null ? (
                <Badge>reading</Badge>
              ) : record.fired ? (
                <Badge tone="warn">fired</Badge>
              ) : (
                <Badge tone="good">rested</Badge>
              ),
          },
          {
            head: "Tokens changed",
            number: true,
            cell: ({ baseline, steered }) => difference(baseline.tokens, steered.tokens).changed,
          },
          {
            head: <span className="visually-hidden">What can be done</span>,
            cell: ({ key }) =>
              key === shown ? null : (
                <Button small onClick={() => onShow(key)}>
                  Show
                </Button>
              ),
          },
        ]}
      />
    </Section>
  );
}
