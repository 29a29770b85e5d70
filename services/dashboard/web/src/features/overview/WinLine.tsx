"use client";

import Link from "next/link";

import { api, type Schema } from "@/api/client";
import { ArtifactLink } from "@/ui/ArtifactLink";
import { Badge } from "@/ui/Badge";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Figure } from "@/ui/Figure";
import { moment } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { Ago } from "@/ui/Time";

import { reaches, WIN_LINE, type WinFigure } from "./figures";
import { History } from "./History";
import styles from "./Overview.module.css";

type Card = Schema["ArtifactDocument"];

/** A criterion as a Risk Card has it. */
interface Criterion {
  name: string;
  source: string;
  limit: number;
  value: { value: number; low: number; high: number; n: number } | null;
  passed: boolean;
}

/** The newest Risk Card against the win line, with what came before it. */
export function WinLine() {
  const cards = api.useQuery("get", "/risk-cards", { params: { query: { limit: 30 } } });
  const newest = cards.data?.items[0];
  const card = api.useQuery(
    "get",
    "/risk-cards/{artifact_id}",
    { params: { path: { artifact_id: newest?.id ?? "" } } },
    { enabled: newest !== undefined, staleTime: Infinity },
  );
  const problem = cards.error ?? card.error;
  const criteria = (card.data?.card.win_line ?? []) as Criterion[];
  const history = [...(cards.data?.items ?? [])].reverse();
  return (
    <Section
      title="Against the win line"
      actions={
        newest && (
          <span className={styles.faint}>
            <ArtifactLink id={newest.id} />, measured <Ago at={newest.created_at} /> ·{" "}
            <Link href="/evaluations">All cards</Link>
          </span>
        )
      }
    >
      {problem ? (
        <ErrorState problem={problem} retry={() => void cards.refetch()} compact />
      ) : !cards.data ? (
        <Loading what="Risk Cards" />
      ) : newest === undefined ? (
        <EmptyState title="Nothing was measured yet" compact>
          <p>
            A Risk Card says what a policy prevents and what it costs.{" "}
            <Link href="/run">Run the pipeline</Link> to get one.
          </p>
        </EmptyState>
      ) : (
        <>
          <div className={styles.panels}>
            {WIN_LINE.map((wanted) => (
              <Panel
                key={wanted.name}
                wanted={wanted}
                criterion={criteria.find(({ name, source }) => name === wanted.name && source === "win line")}
                waiting={card.isPending}
                cards={history}
              />
            ))}
          </div>
          <details className={styles.table}>
            <summary>All cards as a table</summary>
            <Table caption="Risk Cards" columns={COLUMNS} rows={cards.data.items} id={({ id }) => id} />
          </details>
        </>
      )}
    </Section>
  );
}

interface PanelProps {
  wanted: WinFigure;
  criterion: Criterion | undefined;
  waiting: boolean;
  cards: readonly Card[];
}

function Panel({ wanted, criterion, waiting, cards }: PanelProps) {
  const value = criterion?.value;
  const limit = criterion?.limit ?? wanted.limit;
  const points = cards.flatMap((card) => {
    const found = card.summary[wanted.name];
    return typeof found === "number" ? [{ at: card.created_at, value: found, id: card.id }] : [];
  });
  return (
    <div className={styles.panel}>
      <div className={styles.panelHead}>
        <h3>
          {wanted.title} <abbr title={wanted.title}>{wanted.short}</abbr>
        </h3>
        {criterion && (
          <Badge tone={criterion.passed ? "good" : "bad"}>{criterion.passed ? "met" : "missed"}</Badge>
        )}
      </div>
      {value ? (
        <Figure
          large
          value={value.value}
          interval={[value.low, value.high]}
          n={value.n}
          format={wanted.format}
        />
      ) : (
        <p className={styles.faint}>{waiting ? "…" : "not measured"}</p>
      )}
      <p className={styles.limit}>
        {wanted.sense} {wanted.format(limit)}
      </p>
      <History points={points} wanted={{ ...wanted, limit }} />
    </div>
  );
}

const COLUMNS: readonly Column<Card>[] = [
  { head: "Card", cell: ({ id }) => <ArtifactLink id={id} /> },
  { head: "Measured", cell: ({ created_at: at }) => moment(at), wide: true },
  ...WIN_LINE.map(
    (wanted): Column<Card> => ({
      head: wanted.short,
      number: true,
      cell: ({ summary }) => {
        const value = summary[wanted.name];
        if (typeof value !== "number") return "–";
        return `${wanted.format(value)}${reaches(wanted, value) ? "" : " missed"}`;
      },
    }),
  ),
];
