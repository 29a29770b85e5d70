import styles from "./GraphView.module.css";
import type { Form } from "./graph";
import type { Layout } from "./layout";
import type { View } from "./paint";

interface AxesProps {
  layout: Layout;
  view: View;
  size: { width: number; height: number };
  form: Form;
}

const LEFT = 42;
const LEAST = 13;

/** Layers at the left and columns below; they stay in the window while the drawing moves. */
export function Axes({ layout, view, size, form }: AxesProps) {
  const tokens = form === "attribution_graph";
  const bottom = size.height - (tokens ? 40 : 34);
  const gap = Math.abs((layout.rows[1]?.y ?? 30) - (layout.rows[0]?.y ?? 0)) * view.k;
  const every = Math.max(1, Math.ceil(LEAST / Math.max(gap, 1)));
  return (
    <svg className={styles.axes} aria-hidden>
      <rect className={styles.strip} x={0} y={0} width={LEFT} height={size.height} />
      <rect
        className={styles.strip}
        x={0}
        y={bottom}
        width={size.width}
        height={size.height - bottom}
      />
      <line className={styles.rule} x1={LEFT} x2={LEFT} y1={0} y2={bottom} />
      <line className={styles.rule} x1={LEFT} x2={size.width} y1={bottom} y2={bottom} />
      {layout.rows.map(({ label, y }, i) => {
        const place = y * view.k + view.y;
        const word = !/^\d+$/.test(label);
        if (place < 8 || place > bottom - 4 || (i % every !== 0 && !word)) return null;
        return (
          <text key={i} x={LEFT - 6} y={place} textAnchor="end" dominantBaseline="central">
            {label}
          </text>
        );
      })}
      <text className={styles.heading} x={8} y={bottom + 15}>
        {tokens ? "Token" : "Layer"}
      </text>
      {tokens ? (
        <Tokens layout={layout} view={view} bottom={bottom} width={size.width} />
      ) : (
        <Columns layout={layout} view={view} bottom={bottom} width={size.width} />
      )}
    </svg>
  );
}

interface LabelsProps {
  layout: Layout;
  view: View;
  bottom: number;
  width: number;
}

function Columns({ layout, view, bottom, width }: LabelsProps) {
  const groups = new Map<string, { left: number; right: number }>();
  for (const { group, left, width: wide } of layout.columns) {
    if (group === "") continue;
    const held = groups.get(group);
    groups.set(group, { left: held?.left ?? left, right: left + wide });
  }
  return (
    <>
      {layout.columns.map(({ label, left, width: wide }, i) => {
        const x = (left + wide / 2) * view.k + view.x;
        if (x < LEFT + 4 || x > width || wide * view.k < label.length * 5) return null;
        return (
          <text key={i} x={x} y={bottom + 13} textAnchor="middle">
            {label}
          </text>
        );
      })}
      {[...groups].map(([group, { left, right }]) => (
        <text
          key={group}
          className={styles.heading}
          x={Math.max(LEFT + 60, ((left + right) / 2) * view.k + view.x)}
          y={bottom + 28}
          textAnchor="middle"
        >
          {group}
        </text>
      ))}
    </>
  );
}

function Tokens({ layout, view, bottom, width }: LabelsProps) {
  return (
    <>
      {layout.columns.map(({ label, left, width: wide }, i) => {
        const x = (left + wide / 2) * view.k + view.x;
        const room = Math.floor((wide * view.k) / 6.8);
        if (x < LEFT + 4 || x > width || room < 1) return null;
        const text = label.length > room ? `${label.slice(0, Math.max(1, room - 1))}…` : label;
        return (
          <g key={i}>
            <line
              className={styles.rule}
              x1={left * view.k + view.x}
              x2={left * view.k + view.x}
              y1={bottom}
              y2={bottom + 6}
            />
            <text className={styles.token} x={x} y={bottom + 15} textAnchor="middle">
              {text}
            </text>
            <text x={x} y={bottom + 30} textAnchor="middle">
              {room >= 2 ? i : ""}
            </text>
          </g>
        );
      })}
    </>
  );
}
