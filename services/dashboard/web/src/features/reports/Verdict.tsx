"use client";

import { useQuery } from "@tanstack/react-query";

import { Badge } from "@/ui/Badge";
import { Copy } from "@/ui/Copy";
import { bytes } from "@/ui/format";
import { Loading } from "@/ui/Loading";

import { sha256 } from "./hash";
import styles from "./Verdict.module.css";

interface VerdictProps {
  content: ArrayBuffer;
  /** SHA-256 as the manifest has it. */
  expected: string;
}

/** Whether the bytes that came here are those the manifest names; computed in this browser. */
export function Verdict({ content, expected }: VerdictProps) {
  const hash = useQuery({
    queryKey: ["sha256", expected, content.byteLength],
    staleTime: Infinity,
    gcTime: 0,
    queryFn: () => sha256(content),
  });
  if (hash.isPending) return <Loading what="its hash" />;
  const whole = hash.data === expected;
  return (
    <div className={styles.verdict} role="status">
      {hash.data === null || hash.data === undefined ? (
        <p>
          <Badge tone="warn">not checked</Badge> Browsers compute hashes only over HTTPS or on this
          machine. Check the download yourself: <code>sha256sum</code>.
        </p>
      ) : (
        <p>
          {whole ? <Badge tone="good">verified</Badge> : <Badge tone="bad">altered</Badge>} This browser
          hashed the {bytes(content.byteLength)} it got:{" "}
          {whole
            ? "they are the ones that the manifest names."
            : "they are not the ones that the manifest names. Do not rely on this copy."}
        </p>
      )}
      <dl>
        <dt>Manifest</dt>
        <dd>
          <Copy text={expected} what="the manifest's hash" />
        </dd>
        {hash.data && (
          <>
            <dt>Here</dt>
            <dd>
              <Copy text={hash.data} what="the hash computed here" />
            </dd>
          </>
        )}
      </dl>
    </div>
  );
}
