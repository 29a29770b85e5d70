"use client";

import { useState, type SubmitEvent } from "react";

import { api } from "@/api/client";
import { Button } from "@/ui/Button";
import { Field } from "@/ui/Field";
import { Section } from "@/ui/Page";

import { readLayers, readOpenings, readPairs, SIZES, type RunSettings, type SizeName } from "./pipeline";
import styles from "./Run.module.css";

/** What a run is asked for. */
export function RunForm({ onBegin }: { onBegin: (settings: RunSettings) => void }) {
  const dictionaries = api.useQuery("get", "/dictionaries", { params: { query: { limit: 1 } } });
  const last = layersOf(dictionaries.data?.items[0]?.summary);
  const [model, setModel] = useState("");
  const [layers, setLayers] = useState<string | null>(null);
  const [riskClass, setRiskClass] = useState("jailbreak");
  const [size, setSize] = useState<SizeName>("small");
  const [pairs, setPairs] = useState("");
  const policies = api.useQuery("get", "/policies", { params: { query: { limit: 200 } } });
  const [policy, setPolicy] = useState("");
  const [toward, setToward] = useState("");
  const [against, setAgainst] = useState("");
  const [wrong, setWrong] = useState<{ layers?: string; pairs?: string; openings?: string }>({});
  const shown = layers ?? last ?? "14, 18";

  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const found: typeof wrong = {};
    const tried = <T,>(name: "layers" | "pairs", read: () => T): T | null => {
      try {
        return read();
      } catch (error) {
        found[name] = (error as Error).message;
        return null;
      }
    };
    const numbers = tried("layers", () => readLayers(shown));
    const read = tried("pairs", () => readPairs(pairs));
    const openings = { toward: readOpenings(toward), against: readOpenings(against) };
    if ((openings.toward.length === 0) !== (openings.against.length === 0)) {
      found.openings = "Give both, or neither.";
    }
    setWrong(found);
    if (numbers && read && found.openings === undefined) {
      onBegin({ model: model.trim(), layers: numbers, riskClass, size, policy, pairs: read, ...openings });
    }
  };
  return (
    <Section title="What to run">
      <form className={styles.form} onSubmit={submit}>
        <Field label="Model" hint="A hub id or built-in model; empty for the installation's own.">
          {(field) => (
            <input
              {...field}
              value={model}
              placeholder="the installation's model"
              onChange={(event) => setModel(event.target.value)}
            />
          )}
        </Field>
        <Field
          label="Layers"
          hint="Whose residual stream is explained: one near the middle, one where steering acts."
          error={wrong.layers}
        >
          {(field) => (
            <input {...field} required value={shown} onChange={(event) => setLayers(event.target.value)} />
          )}
        </Field>
        <Field label="Risk class">
          {(field) => (
            <input
              {...field}
              required
              maxLength={128}
              value={riskClass}
              onChange={(event) => setRiskClass(event.target.value)}
            />
          )}
        </Field>
        <Field label="How much">
          {(field) => (
            <select {...field} value={size} onChange={(event) => setSize(event.target.value as SizeName)}>
              {Object.entries(SIZES).map(([name, { label }]) => (
                <option key={name} value={name}>
                  {label}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Policy" hint="Which one is measured and reported on.">
          {(field) => (
            <select {...field} value={policy} onChange={(event) => setPolicy(event.target.value)}>
              <option value="">Fit one to the circuit</option>
              {policies.data?.items.map(({ name, version }) => (
                <option key={name} value={`${name}@${version}`}>
                  {name}@{version}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field
          label="A risky answer begins with (optional)"
          hint="Words with commas between; else what fits the class."
          error={wrong.openings}
        >
          {(field) => (
            <input
              {...field}
              value={toward}
              placeholder="Sure, Of course"
              onChange={(event) => setToward(event.target.value)}
            />
          )}
        </Field>
        <Field label="A harmless one begins with (optional)">
          {(field) => (
            <input
              {...field}
              value={against}
              placeholder="Sorry, I cannot"
              onChange={(event) => setAgainst(event.target.value)}
            />
          )}
        </Field>
        <div className={styles.whole}>
          <Field
            label="Pairs of your own (optional)"
            hint="A line each: a risky prompt => its harmless twin of as many tokens. Without them the packaged attacks are taken."
            error={wrong.pairs}
          >
            {(field) => (
              <textarea
                {...field}
                rows={4}
                spellCheck={false}
                value={pairs}
                onChange={(event) => setPairs(event.target.value)}
              />
            )}
          </Field>
        </div>
        <Button type="submit" kind="primary">
          Run
        </Button>
      </form>
    </Section>
  );
}

/** The layers of the newest dictionary, which fit the model that is used here. */
function layersOf(summary: Record<string, unknown> | undefined): string | null {
  const found = JSON.stringify(summary ?? {}).matchAll(/resid_post\.(\d+)/g);
  const layers = [...new Set([...found].map((match) => match[1]))];
  return layers.length > 0 ? layers.join(", ") : null;
}
