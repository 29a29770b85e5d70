"use client";

import { Tabs as Radix } from "radix-ui";
import type { ReactNode } from "react";

import styles from "./Tabs.module.css";

export interface Tab {
  id: string;
  label: ReactNode;
  content: ReactNode;
}

interface TabsProps {
  label: string;
  tabs: readonly Tab[];
  value: string;
  onChange: (id: string) => void;
}

/** Parts of a page of which one is shown; arrow keys go from tab to tab. */
export function Tabs({ label, tabs, value, onChange }: TabsProps) {
  const shown = tabs.some(({ id }) => id === value) ? value : (tabs[0]?.id ?? "");
  return (
    <Radix.Root value={shown} onValueChange={onChange} className={styles.tabs}>
      <Radix.List aria-label={label} className={styles.list}>
        {tabs.map(({ id, label: name }) => (
          <Radix.Trigger key={id} value={id} className={styles.tab}>
            {name}
          </Radix.Trigger>
        ))}
      </Radix.List>
      {tabs.map(({ id, content }) => (
        <Radix.Content key={id} value={id} className={styles.content}>
          {content}
        </Radix.Content>
      ))}
    </Radix.Root>
  );
}
