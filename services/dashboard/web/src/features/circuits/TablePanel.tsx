"use client";

import { useMemo, useState } from "react";

import { Button } from "@/ui/Button";
import { count, figure, percent } from "@/ui/format";
import { Table, type Column } from "@/ui/Table";

import { countShown } from "./describe";
import { at, KIND_NAMES, type Graph } from "./graph";
import styles from "./Panels.module.css";
import type { Shown } from "./prune";

interface TablePanelProps {
  graph: Graph;
  shown: Shown;
  selected: number | null;
  labelOf: (node: number) => string;
  onSelect: (node: number) => void;
}

const PAGE = 60;

/** Everything that is shown, as rows, strongest first: the graph for those who do not see it. */
export function TablePanel({ graph, shown, selected, labelOf, onSelect }: TablePanelProps) {
  const [text, setText] = useState("");
  const [most, setMost] = useState(PAGE);
  const rows = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const found: number[] = [];
    graph.nodes.forEach(({ id, name, title }, i) => {
      if (!at(shown.nodes, i)) return;
      const said = `${id} ${name} ${title} ${labelOf(i)}`.toLowerCase();
      if (wanted === "" || said.includes(wanted)) found.push(i);
    });
    return found.sort((a, b) => at(graph.nodes, b).strength - at(graph.nodes, a).strength);
  }, [graph, shown, text, labelOf]);
  const columns: Column<number>[] = [
    {
      head: "Node",
      cell: (i) => (
        <button type="button" className={styles.rowName} onClick={() => onSelect(i)}>
          {labelOf(i)}
        </button>
      ),
      wide: true,
    },
    { head: "Kind", cell: (i) => KIND_NAMES[at(graph.nodes, i).kind].one, minor: true },
    { head: "Layer", cell: (i) => graph.rows[at(graph.nodes, i).row], number: true },
    ...(graph.form === "contrast"
      ? [
          {
            head: "CCS",
            cell: (i: number) => {
              const { ccs } = at(graph.nodes, i);
              return ccs === null ? "–" : percent(ccs.value, 1);
            },
            number: true,
          },
          {
            head: "Attribution",
            cell: (i: number) => {
              const { attribution } = at(graph.nodes, i);
              return attribution === null ? "–" : percent(attribution, 1);
            },
            number: true,
          },
        ]
      : [
          { head: "Token", cell: (i: number) => at(graph.nodes, i).column, number: true },
          {
            head: "Influence",
            cell: (i: number) => figure(at(graph.nodes, i).strength, 2),
            number: true,
          },
        ]),
    { head: "In", cell: (i) => countShown(graph, shown, i, false), number: true, minor: true },
    { head: "Out", cell: (i) => countShown(graph, shown, i, true), number: true, minor: true },
  ];
  return (
    <div className={styles.stack}>
      <input
        className={styles.search}
        type="search"
        aria-label="Find a node"
        placeholder="Find a node by name, label or token"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setMost(PAGE);
        }}
      />
      <Table
        caption="Shown nodes, strongest first"
        columns={columns}
        rows={rows.slice(0, most)}
        id={(i) => at(graph.nodes, i).id}
        selected={(i) => i === selected}
      />
      {rows.length > most && (
        <Button small onClick={() => setMost(most + 4 * PAGE)}>
          Show more of {count(rows.length)}
        </Button>
      )}
      {rows.length === 0 && <p className={styles.small}>No shown node is called that.</p>}
    </div>
  );
}
