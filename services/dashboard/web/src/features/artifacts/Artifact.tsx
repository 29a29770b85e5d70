"use client";

import { Download } from "lucide-react";

import { api, type Schema } from "@/api/client";
import { Copy } from "@/ui/Copy";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Facts } from "@/ui/Facts";
import { bytes, moment } from "@/ui/format";
import { Json } from "@/ui/Json";
import { Loading } from "@/ui/Loading";
import { Page, Section } from "@/ui/Page";
import { Table, type Column } from "@/ui/Table";
import { useUrlState } from "@/ui/url";

import { LineageGraph } from "./LineageGraph";
import { artifactKindName } from "./names";

/** Any artifact: what made it, from what, and its files. */
export function Artifact() {
  const [query] = useUrlState();
  const id = query.get("id");
  const artifact = api.useQuery(
    "get",
    "/artifacts/{artifact_id}",
    { params: { path: { artifact_id: id ?? "" } } },
    { enabled: id !== null },
  );
  if (id === null) return <EmptyState alone title="No artifact is named in the address" />;
  if (artifact.error) return <ErrorState problem={artifact.error} retry={() => void artifact.refetch()} />;
  const found = artifact.data;
  if (!found) return <Loading what="the artifact" />;
  const columns: readonly Column<Schema["ArtifactFile"]>[] = [
    { head: "File", cell: ({ path }) => <code>{path}</code>, wide: true },
    { head: "Kind", cell: ({ media_type: kind }) => kind, minor: true },
    { head: "Size", cell: ({ size }) => bytes(size), number: true },
    { head: "SHA-256", cell: ({ sha256 }) => <Copy text={sha256} shown={`${sha256.slice(0, 12)}…`} what="the hash" /> },
    {
      head: <span className="visually-hidden">Download</span>,
      cell: ({ path }) => (
        <a href={`/api/artifacts/${id}/files/${path}`} download aria-label={`Download ${path}`}>
          <Download size={15} aria-hidden />
        </a>
      ),
    },
  ];
  return (
    <Page title={artifactKindName(found.kind)} lead={<Copy text={id} what="the id" />}>
      <Section title="Facts">
        <Facts
          facts={[
            ["Made", moment(found.created_at)],
            ["Model", found.model ?? "–"],
            ["Size", bytes(found.size)],
            ["Kept until", found.expires_at ? moment(found.expires_at) : "for ever"],
            ["SHA-256", <Copy key="hash" text={found.sha256} shown={`${found.sha256.slice(0, 16)}…`} what="the hash" />],
          ]}
        />
      </Section>
      <Section title="Lineage">
        <LineageGraph id={id} />
      </Section>
      <Section title="Files">
        <Table caption="Files" columns={columns} rows={found.files} id={({ path }) => path} />
      </Section>
      <Section title="Manifest">
        <Json value={found.manifest} label="The manifest" />
      </Section>
    </Page>
  );
}
