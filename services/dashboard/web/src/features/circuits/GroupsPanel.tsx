"use client";

import { ChevronsDownUp, ChevronsUpDown, Combine, Trash2 } from "lucide-react";

import { Button } from "@/ui/Button";
import { EmptyState } from "@/ui/EmptyState";

import type { Supernode } from "./groups";
import styles from "./Panels.module.css";

interface GroupsPanelProps {
  groups: readonly Supernode[];
  collapsed: readonly string[];
  pinned: readonly string[];
  may: boolean;
  onCollapse: (names: readonly string[]) => void;
  onChange: (groups: readonly Supernode[]) => void;
  onGroupPinned: () => void;
  onSelect: (id: string) => void;
}

/** Supernodes: nodes that people read as one thing. */
export function GroupsPanel(props: GroupsPanelProps) {
  const { groups, collapsed, pinned, may, onCollapse, onChange, onGroupPinned, onSelect } = props;
  const folded = new Set(collapsed);
  return (
    <div className={styles.stack}>
      {may && (
        <Button small onClick={onGroupPinned} disabled={pinned.length < 2}>
          <Combine size={14} aria-hidden /> Group the {pinned.length} pinned nodes
        </Button>
      )}
      {groups.length === 0 ? (
        <EmptyState title="No supernodes yet" compact>
          <p>
            {may
              ? "Pin nodes that mean one thing, group them, and fold the group into one node."
              : "Whoever may write artifacts can group nodes here."}
          </p>
        </EmptyState>
      ) : (
        <ul className={styles.groups}>
          {groups.map((group) => (
            <li key={group.name}>
              <div className={styles.groupHead}>
                <strong>{group.name}</strong>
                <span className={styles.small}>{group.nodes.length} nodes</span>
                <Button
                  small
                  kind="quiet"
                  aria-pressed={folded.has(group.name)}
                  onClick={() =>
                    onCollapse(
                      folded.has(group.name)
                        ? collapsed.filter((name) => name !== group.name)
                        : [...collapsed, group.name],
                    )
                  }
                >
                  {folded.has(group.name) ? <ChevronsUpDown size={14} aria-hidden /> : <ChevronsDownUp size={14} aria-hidden />}
                  {folded.has(group.name) ? "Unfold" : "Fold"}
                </Button>
                {may && (
                  <Button
                    small
                    kind="quiet"
                    aria-label={`Dissolve ${group.name}`}
                    onClick={() => onChange(groups.filter(({ name }) => name !== group.name))}
                  >
                    <Trash2 size={14} aria-hidden />
                  </Button>
                )}
              </div>
              <ul className={styles.members}>
                {group.nodes.map((id) => (
                  <li key={id}>
                    <button type="button" onClick={() => onSelect(id)}>
                      {id}
                    </button>
                  </li>
                ))}
              </ul>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
