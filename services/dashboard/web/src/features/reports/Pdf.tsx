"use client";

import { useEffect, useRef, useState } from "react";
import {
  getDocument,
  GlobalWorkerOptions,
  TextLayer,
  type PDFDocumentProxy,
  type PDFPageProxy,
} from "pdfjs-dist";

import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";

import styles from "./Pdf.module.css";

const WIDEST = 820;

/** The pages of a PDF, drawn as one comes to them; their text can be selected and is read aloud. */
export function Pdf({ content }: { content: ArrayBuffer }) {
  const [pdf, setPdf] = useState<PDFDocumentProxy | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  useEffect(() => {
    GlobalWorkerOptions.workerPort ??= new Worker(
      new URL("pdfjs-dist/build/pdf.worker.min.mjs", import.meta.url),
      { type: "module" },
    );
    // A copy, since the worker takes it away.
    const task = getDocument({ data: content.slice(0), isEvalSupported: false, useWasm: false });
    task.promise.then(setPdf, (error: unknown) => {
      if (!task.destroyed) setProblem(error);
    });
    return () => void task.destroy();
  }, [content]);
  if (problem !== null) return <ErrorState problem={problem} compact />;
  if (pdf === null) return <Loading what="the preview" />;
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls by itself
    <div className={styles.pages} role="region" aria-label="Preview of the report" tabIndex={0}>
      {Array.from({ length: pdf.numPages }, (_, at) => (
        <PdfPage key={at} pdf={pdf} number={at + 1} />
      ))}
    </div>
  );
}

function PdfPage({ pdf, number }: { pdf: PDFDocumentProxy; number: number }) {
  const box = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(number === 1);
  useEffect(() => {
    if (near || box.current === null) return;
    const watcher = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting) setNear(true);
      },
      { rootMargin: "600px" },
    );
    watcher.observe(box.current);
    return () => watcher.disconnect();
  }, [near]);
  useEffect(() => {
    const element = box.current;
    if (!near || element === null) return;
    let gone = false;
    let cancel: () => void = () => undefined;
    void pdf.getPage(number).then(async (page) => {
      if (gone) return;
      cancel = draw(page, element);
      await page.getTextContent();
    });
    return () => {
      gone = true;
      cancel();
      element.replaceChildren();
    };
  }, [pdf, number, near]);
  return <div ref={box} className={styles.page} aria-label={`Page ${number}`} role="group" />;
}

/** Draw a page into an element; gives what ends it early. */
function draw(page: PDFPageProxy, element: HTMLElement): () => void {
  const width = Math.min(element.parentElement?.clientWidth ?? WIDEST, WIDEST);
  const scale = width / page.getViewport({ scale: 1 }).width;
  const viewport = page.getViewport({ scale });
  const sharp = Math.min(window.devicePixelRatio, 2);
  const canvas = document.createElement("canvas");
  canvas.width = Math.floor(viewport.width * sharp);
  canvas.height = Math.floor(viewport.height * sharp);
  canvas.setAttribute("aria-hidden", "true");
  const text = document.createElement("div");
  text.className = styles.text ?? "";
  element.style.width = `${viewport.width}px`;
  element.style.height = `${viewport.height}px`;
  element.style.setProperty("--total-scale-factor", String(scale));
  element.replaceChildren(canvas, text);
  const drawing = page.render({ canvas, viewport, transform: [sharp, 0, 0, sharp, 0, 0] });
  const layer = new TextLayer({
    textContentSource: page.streamTextContent(),
    container: text,
    viewport,
  });
  const ignore = () => undefined; // a page that is left while it is drawn
  drawing.promise.catch(ignore);
  layer.render().catch(ignore);
  return () => {
    drawing.cancel();
    layer.cancel();
  };
}
