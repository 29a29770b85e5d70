"use client";

import { useQuery } from "@tanstack/react-query";
import { Download } from "lucide-react";
import dynamic from "next/dynamic";

import { api, asProblem, ProblemError } from "@/api/client";
import { LineageGraph } from "@/features/artifacts/LineageGraph";
import button from "@/ui/Button.module.css";
import { Copy } from "@/ui/Copy";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { moment } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { useUrlState } from "@/ui/url";

import { Verdict } from "./Verdict";

const Pdf = dynamic(() => import("./Pdf").then(({ Pdf }) => Pdf), {
  ssr: false,
  loading: () => <Loading what="the preview" />,
});

/** One report: what its hash says, its pages, and all that it was made from. */
export function Report() {
  const [query] = useUrlState();
  const id = query.get("id");
  const artifact = api.useQuery(
    "get",
    "/artifacts/{artifact_id}",
    { params: { path: { artifact_id: id ?? "" } } },
    { enabled: id !== null },
  );
  const content = useQuery({
    queryKey: ["report", id],
    enabled: id !== null,
    staleTime: Infinity,
    queryFn: ({ signal }) => bytesOf(`/api/reports/${id ?? ""}.pdf`, signal),
  });
  if (id === null) return <EmptyState alone title="No report is named in the address" />;
  if (artifact.error) return <ErrorState problem={artifact.error} retry={() => void artifact.refetch()} />;
  if (!artifact.data) return <Loading what="the report" />;
  const file = artifact.data.files.find(({ media_type: kind }) => kind === "application/pdf");
  return (
    <Page
      title="Audit report"
      lead={
        <>
          <Copy text={id} what="the report's id" /> · written {moment(artifact.data.created_at)}
        </>
      }
      actions={
        <a className={`${button.button} ${button.primary}`} href={`/api/reports/${id}.pdf`} download={`${id}.pdf`}>
          <Download size={15} aria-hidden /> Download
        </a>
      }
    >
      <Section title="Integrity">
        {content.error ? (
          <ErrorState problem={content.error} retry={() => void content.refetch()} compact />
        ) : content.data && file ? (
          <Verdict content={content.data} expected={file.sha256} />
        ) : (
          <Loading what="the PDF" />
        )}
      </Section>
      <Section title="Lineage">
        <LineageGraph id={id} />
      </Section>
      {content.data && (
        <Section title="Preview">
          <Pdf content={content.data} />
        </Section>
      )}
    </Page>
  );
}

async function bytesOf(address: string, signal: AbortSignal): Promise<ArrayBuffer> {
  const answer = await fetch(address, { signal });
  if (!answer.ok) throw new ProblemError(asProblem(await answer.json().catch(() => answer.statusText)));
  return answer.arrayBuffer();
}
