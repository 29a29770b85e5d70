"use client";

import { Check, Copy as CopyIcon } from "lucide-react";
import { useState } from "react";

import styles from "./Copy.module.css";

interface CopyProps {
  text: string;
  /** What it is, for the button's name. */
  what: string;
  /** How it is shown, if not as it is. */
  shown?: string;
}

/** A text to copy, such as an id or a hash. */
export function Copy({ text, what, shown = text }: CopyProps) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <span className={styles.copy}>
      <code title={text}>{shown}</code>
      <button type="button" aria-label={copied ? "Copied" : `Copy ${what}`} onClick={() => void copy()}>
        {copied ? <Check size={14} aria-hidden /> : <CopyIcon size={14} aria-hidden />}
      </button>
    </span>
  );
}
