"use client";

import { acceptCompletion, autocompletion } from "@codemirror/autocomplete";
import { indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { basicSetup } from "codemirror";
import { useEffect, useImperativeHandle, useRef, type Ref } from "react";

import { cspNonce } from "@/api/nonce";

import { completePolicy, type JsonSchema } from "./completion";
import { toDiagnostics, type PolicyProblem } from "./diagnostics";
import styles from "./Policies.module.css";

const COLOURS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--cat-2)" },
  { tag: tags.string, color: "var(--good)" },
  { tag: tags.comment, color: "var(--text-3)", fontStyle: "italic" },
]);

const THEME = EditorView.theme({
  "&": { backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "var(--text-sm)" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { fontFamily: "var(--font-mono)", caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": {
    backgroundColor: "var(--surface)",
    color: "var(--text-3)",
    border: "none",
    fontFamily: "var(--font-mono)",
  },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--surface-2)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--accent-soft) !important",
  },
  ".cm-tooltip": {
    backgroundColor: "var(--surface)",
    color: "var(--text)",
    border: "1px solid var(--border)",
    borderRadius: "var(--radius)",
    boxShadow: "var(--shadow-over)",
  },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
    backgroundColor: "var(--accent-soft)",
    color: "var(--text)",
  },
  ".cm-diagnostic": { fontFamily: "var(--font)", maxWidth: "34rem" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
});

export interface EditorHandle {
  /** Put the cursor at a place and show it. */
  goTo: (line: number, column: number) => void;
}

interface EditorProps {
  label: string;
  value: string;
  /** Without it the text can only be read. */
  onChange?: (text: string) => void;
  problems?: readonly PolicyProblem[];
  schema?: JsonSchema | undefined;
  ref?: Ref<EditorHandle>;
}

/** A policy's text, with what is wrong marked where it is, and its keys completed. */
export function Editor({ label, value, onChange, problems, schema, ref }: EditorProps) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const changed = useRef(onChange);
  const known = useRef(schema);
  const first = useRef(value);
  const writable = onChange !== undefined;
  useEffect(() => {
    changed.current = onChange;
    known.current = schema;
  });

  useEffect(() => {
    if (place.current === null) return;
    const made = new EditorView({
      parent: place.current,
      state: EditorState.create({
        doc: first.current,
        extensions: [
          basicSetup,
          yaml(),
          syntaxHighlighting(COLOURS),
          THEME,
          EditorView.cspNonce.of(cspNonce()),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": label }),
          EditorState.readOnly.of(!writable),
          ...(writable
            ? [
                lintGutter(),
                autocompletion({ override: [(context) => completePolicy(known.current)(context)] }),
                // Escape, then Tab leaves the editor, as CodeMirror documents it.
                keymap.of([{ key: "Tab", run: acceptCompletion }, indentWithTab]),
                EditorView.updateListener.of((update) => {
                  if (update.docChanged) changed.current?.(update.state.doc.toString());
                }),
              ]
            : []),
        ],
      }),
    });
    view.current = made;
    return () => {
      made.destroy();
      view.current = null;
    };
  }, [label, writable]);

  useEffect(() => {
    const { current } = view;
    if (current === null || current.state.doc.toString() === value) return;
    current.dispatch({ changes: { from: 0, to: current.state.doc.length, insert: value } });
  }, [value]);

  useEffect(() => {
    const { current } = view;
    if (current === null || problems === undefined) return;
    current.dispatch(setDiagnostics(current.state, toDiagnostics(problems, current.state.doc)));
  }, [problems]);

  useImperativeHandle(ref, () => ({
    goTo(line, column) {
      const { current } = view;
      if (current === null) return;
      const found = current.state.doc.line(Math.min(line, current.state.doc.lines));
      const anchor = Math.min(found.from + column - 1, found.to);
      current.dispatch({ selection: { anchor }, scrollIntoView: true });
      current.focus();
    },
  }));

  return <div ref={place} className={styles.editor} />;
}
