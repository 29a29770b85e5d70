"use client";

import { CircleCheck, CircleX, X } from "lucide-react";
import { Toast } from "radix-ui";
import { createContext, useCallback, useContext, useState, type ReactNode } from "react";

import { asProblem } from "@/api/client";

import styles from "./Toasts.module.css";

interface Message {
  key: number;
  bad: boolean;
  text: string;
  more?: string | null | undefined;
}

interface Say {
  /** Say that something worked. */
  done: (text: string) => void;
  /** Say that something failed, and what to do about it. */
  failed: (error: unknown) => void;
}

const SayContext = createContext<Say>({ done: () => undefined, failed: () => undefined });

/** Short messages at the edge of the page: `const say = useSay(); say.done("Key revoked")`. */
export function useSay(): Say {
  return useContext(SayContext);
}

let last = 0;

export function Toasts({ children }: { children: ReactNode }) {
  const [messages, setMessages] = useState<readonly Message[]>([]);
  const add = useCallback((message: Omit<Message, "key">) => {
    last += 1;
    const key = last;
    setMessages((before) => [...before.slice(-3), { ...message, key }]);
  }, []);
  const [say] = useState<Say>(() => ({
    done: (text) => add({ bad: false, text }),
    failed: (error) => {
      const { detail, fix } = asProblem(error);
      add({ bad: true, text: detail, more: fix });
    },
  }));
  return (
    <SayContext value={say}>
      <Toast.Provider swipeDirection="right" duration={6000}>
        {children}
        {messages.map(({ key, bad, text, more }) => (
          <Toast.Root
            key={key}
            className={styles.toast}
            type={bad ? "foreground" : "background"}
            duration={bad ? 15_000 : 6_000}
            onOpenChange={(open) => {
              if (!open) setMessages((before) => before.filter((one) => one.key !== key));
            }}
          >
            {bad ? (
              <CircleX size={17} className={styles.bad} aria-hidden />
            ) : (
              <CircleCheck size={17} className={styles.good} aria-hidden />
            )}
            <div>
              <Toast.Title className={styles.title}>{text}</Toast.Title>
              {more && <Toast.Description className={styles.more}>{more}</Toast.Description>}
            </div>
            <Toast.Close className={styles.close} aria-label="Close">
              <X size={15} aria-hidden />
            </Toast.Close>
          </Toast.Root>
        ))}
        <Toast.Viewport className={styles.viewport} />
      </Toast.Provider>
    </SayContext>
  );
}
