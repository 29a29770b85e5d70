"use client";

import { useQueryClient } from "@tanstack/react-query";
import { Check, Pencil, X } from "lucide-react";
import { useState } from "react";

import { api, asProblem, edge, must, type Schema } from "@/api/client";
import { useMay } from "@/api/session";
import { Button } from "@/ui/Button";
import { ErrorState } from "@/ui/ErrorState";
import { count, figure, percent } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { useSay } from "@/ui/Toasts";

import { shownToken } from "./attributionGraph";
import styles from "./FeatureCard.module.css";
import type { FeaturePlace } from "./useCircuit";

type Card = Schema["FeatureDocument"];

/** What is known of a feature: where it is active, how often, what it moves, and what people call it. */
export function FeatureCard({ place }: { place: FeaturePlace }) {
  const path = { dictionary_id: place.dictionary, site: place.site, feature: place.index };
  const card = api.useQuery("get", "/dictionaries/{dictionary_id}/features/{site}/{feature}", {
    params: { path },
  });
  if (card.error) {
    return <ErrorState problem={card.error} retry={() => void card.refetch()} compact />;
  }
  if (card.data === undefined) return <Loading what="the feature" />;
  return (
    <div className={styles.card}>
      <Label card={card.data} reload={() => void card.refetch()} />
      <p className={styles.facts}>
        Active on {percent(card.data.density, card.data.density < 0.01 ? 2 : 1)} of tokens, up to{" "}
        {figure(card.data.max_activation)}
      </p>
      <Histogram card={card.data} />
      <div className={styles.effects}>
        <Effects title="Promotes" effects={card.data.promoted} />
        <Effects title="Suppresses" effects={card.data.suppressed} />
      </div>
      <h3>Where it is most active</h3>
      <ol className={styles.contexts}>
        {card.data.contexts.map((context, i) => (
          <li key={i}>
            <Context context={context} most={card.data.max_activation} />
          </li>
        ))}
      </ol>
    </div>
  );
}

function Context({ context, most }: { context: Card["contexts"][number]; most: number }) {
  return (
    <p className={styles.context}>
      {context.tokens.map((token, i) => {
        const activation = context.activations[i] ?? 0;
        const share = activation / (most || 1);
        return (
          <span
            key={i}
            className={styles.token}
            title={activation > 0 ? `${shownToken(token)}: ${figure(activation)}` : undefined}
            data-level={activation > 0 ? Math.max(1, Math.ceil(share * 5)) : undefined}
            data-peak={i === context.peak ? "" : undefined}
          >
            {token.replaceAll("\n", "⏎")}
          </span>
        );
      })}
      <span className={styles.peak}>{figure(context.activations[context.peak] ?? 0)}</span>
    </p>
  );
}

function Effects({ title, effects }: { title: string; effects: Card["promoted"] }) {
  const most = Math.max(...effects.map(({ logit }) => Math.abs(logit)), 1e-9);
  return (
    <div>
      <h3>{title}</h3>
      {effects.length === 0 ? (
        <p className={styles.facts}>no tokens: the site does not write to the stream</p>
      ) : (
        <ul>
          {effects.slice(0, 8).map(({ token, logit }, i) => (
            <li key={i} className={styles.effect}>
              <code>{shownToken(token)}</code>
              <svg viewBox="0 0 40 8" preserveAspectRatio="none" aria-hidden>
                <rect
                  width={(Math.abs(logit) / most) * 40}
                  height={8}
                  className={logit < 0 ? styles.lowers : styles.raises}
                />
              </svg>
              <span>{figure(logit, 2)}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

/** Bars over a logarithmic scale, and the counts behind them. */
function Histogram({ card }: { card: Card }) {
  const { histogram } = card;
  if (histogram === null) {
    return (
      <p className={styles.facts}>
        No histogram: this dictionary was trained before activations were counted.
      </p>
    );
  }
  const most = Math.max(...histogram.counts);
  const wide = 260 / histogram.counts.length;
  const total = histogram.counts.reduce((sum, one) => sum + one, 0);
  const [low, high] = [histogram.edges[0] ?? 0, histogram.edges.at(-1) ?? 0];
  return (
    <figure className={styles.histogram}>
      <svg viewBox="0 0 260 62" role="img" aria-label="How often the feature is how active">
        {histogram.counts.map((number, i) => {
          const tall = (number / most) * 44;
          return (
            <rect key={i} x={i * wide + 0.5} width={Math.max(1, wide - 1)} y={46 - tall} height={tall}>
              <title>
                {`${figure(histogram.edges[i] ?? 0, 2)} to ${figure(histogram.edges[i + 1] ?? 0, 2)}: ${count(number)} tokens`}
              </title>
            </rect>
          );
        })}
        <text x={0} y={58}>
          {figure(low, 2)}
        </text>
        <text x={130} y={58} textAnchor="middle">
          activation (logarithmic), n {count(total)}
        </text>
        <text x={260} y={58} textAnchor="end">
          {figure(high, 2)}
        </text>
      </svg>
      <details>
        <summary>Counts</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Activation</th>
              <th scope="col">Tokens</th>
            </tr>
          </thead>
          <tbody>
            {histogram.counts.map((number, i) => (
              <tr key={i}>
                <td>
                  {figure(histogram.edges[i] ?? 0, 2)} – {figure(histogram.edges[i + 1] ?? 0, 2)}
                </td>
                <td>{count(number)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}

function Label({ card, reload }: { card: Card; reload: () => void }) {
  const may = useMay("artifacts:write");
  const say = useSay();
  const client = useQueryClient();
  const [draft, setDraft] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const save = async () => {
    if (draft === null) return;
    setBusy(true);
    try {
      must(
        await edge.PUT("/dictionaries/{dictionary_id}/features/{site}/{feature}/label", {
          params: {
            path: { dictionary_id: card.dictionary, site: card.site, feature: card.index },
            header: { "if-match": `"${card.revision}"` },
          },
          body: { label: draft },
        }),
      );
      setDraft(null);
      void client.invalidateQueries({ queryKey: ["features", card.dictionary] });
      say.done("Label saved");
    } catch (error) {
      say.failed(error);
      if (asProblem(error).status !== 412) return;
    } finally {
      setBusy(false);
      reload();
    }
  };
  if (draft === null) {
    return (
      <div className={styles.label}>
        {card.label ? (
          <strong title={`named by ${card.label_author ?? "somebody"}`}>{card.label}</strong>
        ) : (
          <em>unnamed</em>
        )}
        {may && (
          <Button small kind="quiet" onClick={() => setDraft(card.label ?? "")}>
            <Pencil size={13} aria-hidden /> {card.label ? "Rename" : "Name it"}
          </Button>
        )}
      </div>
    );
  }
  return (
    <form
      className={styles.label}
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <input
        aria-label="What this feature means"
        placeholder="What does it mean?"
        maxLength={200}
        value={draft}
        // The field appears because somebody asked for it.
        // eslint-disable-next-line jsx-a11y/no-autofocus
        autoFocus
        onChange={(event) => setDraft(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") setDraft(null);
        }}
      />
      <Button small kind="primary" type="submit" busy={busy} aria-label="Save the label">
        <Check size={14} aria-hidden />
      </Button>
      <Button small kind="quiet" onClick={() => setDraft(null)} aria-label="Leave it as it was">
        <X size={14} aria-hidden />
      </Button>
    </form>
  );
}
