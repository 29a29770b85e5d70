import type { ReactNode } from "react";

import styles from "./Table.module.css";

export interface Column<Row> {
  head: ReactNode;
  cell: (row: Row) => ReactNode;
  /** Numbers stand at the right. */
  number?: boolean;
  /** Takes what room is left. */
  wide?: boolean;
  /** Left out where the window is narrow. */
  minor?: boolean;
}

interface TableProps<Row> {
  /** What the rows are, for screen readers. */
  caption: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  id: (row: Row) => string;
  /** Marks a row. */
  selected?: ((row: Row) => boolean) | undefined;
}

/** A table of rows. Its first column names the row. */
export function Table<Row>({ caption, columns, rows, id, selected }: TableProps<Row>) {
  return (
    // A wide table scrolls by itself, which a keyboard must be able to do as well.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={styles.scroll} role="region" aria-label={caption} tabIndex={0}>
      <table className={styles.table}>
        <caption className="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, at) => (
              <th key={at} scope="col" className={classes(column)}>
                {column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)} aria-selected={selected?.(row) ? true : undefined}>
              {columns.map((column, at) =>
                at === 0 ? (
                  <th key={at} scope="row" className={classes(column)}>
                    {column.cell(row)}
                  </th>
                ) : (
                  <td key={at} className={classes(column)}>
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classes<Row>({ number, wide, minor }: Column<Row>): string {
  return [number && styles.number, wide && styles.wide, minor && styles.minor]
    .filter(Boolean)
    .join(" ");
}
