"use client";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { MessagesSquare } from "lucide-react";
import { useRouter } from "next/navigation";
import { useRef, useState } from "react";

import { api, asProblem, edge, must, OURS, ProblemError, type Problem } from "@/api/client";
import { useMay } from "@/api/session";
import { Badge } from "@/ui/Badge";
import { Button } from "@/ui/Button";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { useSay } from "@/ui/Toasts";
import { useUrlState } from "@/ui/url";

import { ended } from "./diagnostics";
import { keepDraft, keptDraft, type Draft } from "./draft";
import { Editor, type EditorHandle } from "./Editor";
import { InWords } from "./InWords";
import { policyLink } from "./links";
import styles from "./Policies.module.css";
import { useChecked } from "./useChecked";

const BLANK = `meta:
  id: my-policy
  description: What it is for, in a sentence
  target_class: jailbreak
interventions:
  - type: head_scale            # Ctrl-Space shows what else there is
    selector: {layer: 12, heads: [0]}
    scale: 0.5
    span: {prompt_tail: 5, answer_tokens: 8}
evaluation:
  success_criteria: {defense_efficacy_min: 0.5, collateral_damage_max: 0.05}
`;

/** A policy's text on its way to a new version: written anew, from a version, or from a fit. */
export function DraftPage() {
  const [query] = useUrlState();
  const start = useStart(query);
  if (start.error) return <ErrorState problem={start.error} />;
  if (start.data === undefined) return <Loading what="the text" />;
  return <Writing key={query.toString()} start={start.data} />;
}

function useStart(query: URLSearchParams) {
  const name = query.get("name");
  const from = query.get("from");
  const artifact = query.get("artifact");
  const file = query.get("file") ?? "policy.yaml";
  return useQuery({
    queryKey: ["draft", name, from, artifact, file, query.get("draft")],
    staleTime: Infinity,
    gcTime: 0,
    queryFn: async (): Promise<Draft> => {
      if (query.get("draft") !== null) return keptDraft() ?? { yaml: BLANK, files: null };
      if (artifact !== null) return { yaml: await textOf(artifact, file), files: artifact };
      if (name === null) return { yaml: BLANK, files: null };
      const version = must(
        await edge.GET("/policies/{name}/versions/{version}", {
          params: { path: { name, version: Number(from) } },
        }),
      );
      return { yaml: version.yaml, files: version.artifact_id };
    },
  });
}

/** A text file of an artifact.
 *
 * @throws ProblemError when there is none.
 */
export async function textOf(artifact: string, file: string): Promise<string> {
  const answer = await fetch(`/api/artifacts/${artifact}/files/${file}`, { headers: OURS });
  if (!answer.ok) throw new ProblemError(asProblem(await answer.json()));
  return answer.text();
}

function Writing({ start }: { start: Draft }) {
  const [text, setText] = useState(start.yaml);
  const [saving, setSaving] = useState(false);
  const [refused, setRefused] = useState<Problem | null>(null);
  const may = useMay("policies:write");
  const router = useRouter();
  const client = useQueryClient();
  const say = useSay();
  const editor = useRef<EditorHandle>(null);
  const models = api.useQuery("get", "/models", {});
  const schema = api.useQuery("get", "/schemas/policy", {}, { staleTime: Infinity });
  const model = models.data?.items[0]?.name ?? null;
  const { verdict, problem, fresh } = useChecked(text, start.files, model);
  const valid = fresh && verdict?.valid === true;

  async function save() {
    setSaving(true);
    setRefused(null);
    const answer = await edge.POST("/policies", { body: { yaml: text, files: start.files } });
    setSaving(false);
    if (answer.error !== undefined) {
      setRefused(asProblem(answer.error));
      return;
    }
    await client.invalidateQueries({
      predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/policies"),
    });
    const { name, version } = answer.data;
    say.done(
      answer.response.status === 200
        ? `${name} says this already, in version ${version}`
        : `Kept as version ${version} of ${name}, a draft`,
    );
    router.push(policyLink(name, version));
  }

  function play() {
    keepDraft({ yaml: text, files: start.files });
    router.push("/playground?draft=1");
  }

  return (
    <Page
      title="A policy's text"
      lead="It is checked while you write. A version that is kept never changes; what you save is a draft."
      actions={
        <>
          <Button disabled={!valid} onClick={play}>
            <MessagesSquare size={15} aria-hidden /> Try it in the playground
          </Button>
          <Button kind="primary" busy={saving} disabled={!valid || !may} onClick={() => void save()}>
            Save as a draft
          </Button>
        </>
      }
    >
      {refused !== null && <ErrorState problem={refused} compact />}
      <div className={styles.writing}>
        <div className={styles.stack}>
          <Editor
            ref={editor}
            label="Text of the policy"
            value={start.yaml}
            onChange={setText}
            problems={verdict?.problems}
            schema={schema.data}
          />
          <p className={styles.small}>
            Ctrl-Space completes keys, Escape and then Tab leaves the editor.
            {start.files !== null && (
              <>
                {" "}
                Vectors that it names are those of <code>{start.files}</code>.
              </>
            )}
          </p>
        </div>
        <div className={styles.stack}>
          <Section
            title="Checked"
            actions={
              problem ? null : fresh ? (
                <Badge tone={valid ? "good" : "bad"}>
                  {valid ? "valid" : `${verdict?.problems.length ?? 0} to put right`}
                </Badge>
              ) : (
                <Badge tone="idle">checking</Badge>
              )
            }
          >
            <div aria-live="polite">
              {problem ? (
                <ErrorState problem={problem} compact />
              ) : verdict === undefined ? (
                <Loading what="the check" />
              ) : verdict.valid ? (
                <p className={styles.small}>
                  It fits the schema{model !== null && <> and the model {model}</>}.
                </p>
              ) : (
                <ol className={styles.problems}>
                  {verdict.problems.map((found, at) => (
                    <li key={at}>
                      <button
                        type="button"
                        className={styles.place}
                        onClick={() => editor.current?.goTo(found.line ?? 1, found.column ?? 1)}
                      >
                        {found.line === null ? "the whole" : `${found.line}:${found.column ?? 1}`}
                      </button>
                      <div>
                        {found.field && <code>{found.field}</code>} {ended(found.problem)}
                        <br />
                        <span className={styles.small}>Fix: {ended(found.fix)}</span>
                      </div>
                    </li>
                  ))}
                </ol>
              )}
            </div>
          </Section>
          {valid && (
            <Section title="In words">
              <InWords source={{ yaml: text, files: start.files }} />
            </Section>
          )}
        </div>
      </div>
    </Page>
  );
}
