"use client";

import { useQueryClient } from "@tanstack/react-query";
import { FileJson } from "lucide-react";
import { useRouter } from "next/navigation";
import { useState } from "react";

import { asProblem, OURS, ProblemError } from "@/api/client";
import { Dialog } from "@/ui/Dialog";
import { ErrorState } from "@/ui/ErrorState";
import { bytes } from "@/ui/format";
import { Loading } from "@/ui/Loading";

import styles from "./Circuits.module.css";
import type { Artifact } from "./useCircuit";

/** Take in a graph file of circuit-tracer or Neuronpedia. */
export function ImportDialog({ open, onClose }: { open: boolean; onClose: () => void }) {
  const router = useRouter();
  const client = useQueryClient();
  const [over, setOver] = useState(false);
  const [sending, setSending] = useState<File | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const take = async (file: File | undefined) => {
    if (file === undefined) return;
    setSending(file);
    setProblem(null);
    try {
      const made = await importGraph(file);
      void client.invalidateQueries({ queryKey: ["circuits"] });
      onClose();
      router.push(`/circuits/view?id=${made.id}`);
    } catch (error) {
      setProblem(error);
    } finally {
      setSending(null);
    }
  };
  return (
    <Dialog
      open={open}
      onOpenChange={(next) => {
        if (next) return;
        setProblem(null);
        onClose();
      }}
      title="Import an attribution graph"
      description="A JSON file of circuit-tracer or Neuronpedia. It is kept as it is, and shown beside your own circuits; nothing in it is measured here."
    >
      {sending === null ? (
        // What is dropped can be chosen by the button in it as well.
        // eslint-disable-next-line jsx-a11y/no-static-element-interactions
        <div
          className={styles.drop}
          data-over={over ? "" : undefined}
          onDragOver={(event) => {
            event.preventDefault();
            setOver(true);
          }}
          onDragLeave={() => setOver(false)}
          onDrop={(event) => {
            event.preventDefault();
            setOver(false);
            void take(event.dataTransfer.files[0]);
          }}
        >
          <FileJson size={28} strokeWidth={1.5} aria-hidden />
          <p>
            Drop a file here, or{" "}
            <label>
              choose one
              <input
                className="visually-hidden"
                type="file"
                accept=".json,application/json"
                onChange={(event) => void take(event.target.files?.[0])}
              />
            </label>
          </p>
        </div>
      ) : (
        <Loading what={`${sending.name} (${bytes(sending.size)})`} />
      )}
      {problem !== null && <ErrorState problem={problem} compact />}
    </Dialog>
  );
}

/** The file as it is: a typed client would spell it anew, and it is kept byte for byte. */
async function importGraph(file: File): Promise<Artifact> {
  const answer = await fetch("/api/circuits/import", {
    method: "POST",
    headers: { ...OURS, "content-type": "application/json" },
    body: file,
  });
  const body: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw new ProblemError(asProblem(body ?? answer.statusText));
  return body as Artifact;
}
