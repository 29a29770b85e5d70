"use client";

import { Download, Save } from "lucide-react";
import { DropdownMenu, Tabs } from "radix-ui";
import { useCallback, useDeferredValue, useMemo, useState } from "react";

import { useMay } from "@/api/session";
import { Button } from "@/ui/Button";
import { resolveColours } from "@/ui/colours";
import { Dialog, DialogActions } from "@/ui/Dialog";
import { EmptyState } from "@/ui/EmptyState";
import { ErrorState } from "@/ui/ErrorState";
import { Field } from "@/ui/Field";
import { shortId } from "@/ui/format";
import { Loading } from "@/ui/Loading";
import menu from "@/ui/Menu.module.css";
import { useSay } from "@/ui/Toasts";
import { useUrlState } from "@/ui/url";

import { AboutPanel } from "./AboutPanel";
import styles from "./CircuitPage.module.css";
import { Controls } from "./Controls";
import { download, toJson, toPng, toSvg } from "./exportGraph";
import { at, type Graph } from "./graph";
import { GraphView } from "./GraphView";
import { collapse, type Supernode } from "./groups";
import { GroupsPanel } from "./GroupsPanel";
import { layOut } from "./layout";
import { NodePanel } from "./NodePanel";
import { PALETTE_TOKENS, paletteOf } from "./paint";
import { prune } from "./prune";
import { TablePanel } from "./TablePanel";
import { Conflict, useAnnotations, type Annotations } from "./useAnnotations";
import { useCircuit, useFeatures, type Circuit, type Features } from "./useCircuit";
import { useView } from "./useView";
import { START, type Panel, type ViewState } from "./viewState";

/** One circuit: `/circuits/view?id=cx_…`. */
export function CircuitPage() {
  const [query] = useUrlState();
  const id = query.get("id") ?? "";
  const circuit = useCircuit(id);
  const annotations = useAnnotations(id);
  if (id === "") {
    return (
      <EmptyState alone title="No circuit is named">
        <p>Choose one from the list of circuits.</p>
      </EmptyState>
    );
  }
  const failed = circuit.error ?? annotations.query.error;
  if (failed) {
    return (
      <ErrorState
        problem={failed}
        retry={() => {
          void circuit.refetch();
          void annotations.query.refetch();
        }}
      />
    );
  }
  if (circuit.data === undefined || annotations.query.data === undefined) {
    return <Loading what="the circuit" />;
  }
  return <Explorer key={id} id={id} circuit={circuit.data} saved={annotations.query.data} {...annotations} />;
}

interface ExplorerProps {
  id: string;
  circuit: Circuit;
  saved: Annotations;
  save: ReturnType<typeof useAnnotations>["save"];
  busy: boolean;
}

function Explorer({ id, circuit, saved, save, busy }: ExplorerProps) {
  const may = useMay("artifacts:write");
  const say = useSay();
  const [start] = useState(() => ({
    ...START,
    nodeShare: circuit.suggested,
    edgeShare: circuit.graph.weights.length > 1500 ? 0.8 : 1,
    pinned: saved.pinned,
  }));
  const [state, change] = useView(start);
  const [groups, setGroups] = useState<readonly Supernode[]>(saved.supernodes);
  const [base, setBase] = useState(saved);
  const [naming, setNaming] = useState<readonly string[] | null>(null);
  const [conflict, setConflict] = useState<Annotations | null>(null);
  const features = useFeatures(id, circuit.graph);

  const folded = useMemo(
    () => groups.filter(({ name }) => state.collapsed.includes(name)),
    [groups, state.collapsed],
  );
  const graph = useMemo(() => collapse(circuit.graph, folded), [circuit.graph, folded]);
  const layout = useMemo(() => layOut(graph), [graph]);
  const pinned = useMemo(() => new Set(state.pinned), [state.pinned]);
  const pruning = useMemo(
    () => ({
      nodeShare: state.nodeShare,
      edgeShare: state.edgeShare,
      hidden: new Set(state.hidden),
      pinned,
      onlyPinned: state.onlyPinned && pinned.size > 0,
    }),
    [state.nodeShare, state.edgeShare, state.hidden, state.onlyPinned, pinned],
  );
  const shown = useMemo(() => prune(graph, pruning), [graph, pruning]);
  const calm = useDeferredValue(shown);
  const labelOf = useMemo(() => labeller(graph, features), [graph, features]);
  const named = useMemo(() => withNames(graph, features), [graph, features]);
  const selected = state.selected === null ? null : (graph.index.get(state.selected) ?? null);
  const outlines = useMemo(
    () => groups.filter(({ name }) => !state.collapsed.includes(name)),
    [groups, state.collapsed],
  );

  const onSelect = useCallback(
    (node: number | null) =>
      change(
        node === null
          ? { selected: null }
          : { selected: at(graph.nodes, node).id, panel: state.panel === "table" ? "table" : "node" },
      ),
    [change, graph, state.panel],
  );
  const onPin = useCallback(
    (node: number) => {
      const own = at(graph.nodes, node).id;
      const next = state.pinned.includes(own)
        ? state.pinned.filter((one) => one !== own)
        : [...state.pinned, own];
      change({ pinned: next, onlyPinned: state.onlyPinned && next.length > 0 });
    },
    [change, graph, state.pinned, state.onlyPinned],
  );
  const onZoom = useCallback((zoom: ViewState["zoom"]) => change({ zoom }), [change]);
  const onGroup = (node: number, name: string) => setGroups(moved(groups, at(graph.nodes, node).id, name));

  const dirty =
    JSON.stringify([groups, state.pinned]) !== JSON.stringify([base.supernodes, base.pinned]);
  const write = async (revision: number) => {
    try {
      setBase(await save({ supernodes: groups, pinned: state.pinned }, revision));
      setConflict(null);
      say.done("Saved for everybody");
    } catch (error) {
      if (error instanceof Conflict) setConflict(error.theirs);
      else say.failed(error);
    }
  };
  const title = titleOf(circuit);
  const picture = () => ({
    graph: named,
    layout,
    shown,
    title,
    palette: paletteOf(resolveColours(PALETTE_TOKENS)),
  });
  const file = (extension: string) => `${title.replace(/[^\w-]+/g, "-")}.${extension}`;

  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <div>
          <h1>{title}</h1>
          <p className={styles.lead}>
            {circuit.found ? "Circuit" : "Imported graph"} {shortId(id)}
            {circuit.artifact.model && ` · ${circuit.artifact.model}`}
          </p>
        </div>
        <div className={styles.actions}>
          {may && dirty && (
            <Button kind="primary" busy={busy} onClick={() => void write(base.revision)}>
              <Save size={15} aria-hidden /> Save pins and supernodes
            </Button>
          )}
          <DropdownMenu.Root>
            <DropdownMenu.Trigger asChild>
              <Button>
                <Download size={15} aria-hidden /> Export
              </Button>
            </DropdownMenu.Trigger>
            <DropdownMenu.Portal>
              <DropdownMenu.Content className={menu.menu} align="end" sideOffset={4}>
                <DropdownMenu.Item
                  className={menu.item}
                  onSelect={() => download(file("svg"), new Blob([toSvg(picture())], { type: "image/svg+xml" }))}
                >
                  SVG, for slides and papers
                </DropdownMenu.Item>
                <DropdownMenu.Item
                  className={menu.item}
                  onSelect={() => {
                    toPng(picture()).then((blob) => download(file("png"), blob), say.failed);
                  }}
                >
                  PNG
                </DropdownMenu.Item>
                <DropdownMenu.Item
                  className={menu.item}
                  onSelect={() => {
                    const about = {
                      scan: circuit.artifact.model ?? String(circuit.imported?.metadata.scan ?? ""),
                      prompt: circuit.imported?.metadata.prompt ?? "",
                    };
                    const text = toJson(picture(), about, state.pinned, outlines);
                    download(file("json"), new Blob([text], { type: "application/json" }));
                  }}
                >
                  JSON, as Neuronpedia reads it
                </DropdownMenu.Item>
              </DropdownMenu.Content>
            </DropdownMenu.Portal>
          </DropdownMenu.Root>
        </div>
      </header>
      <Controls circuit={circuit} graph={graph} shown={shown} state={state} change={change} />
      <div className={styles.work}>
        <div className={styles.graph}>
          <GraphView
            graph={named}
            layout={layout}
            shown={shown}
            selected={selected}
            pinned={pinned}
            outlines={outlines}
            zoom={state.zoom}
            labelOf={labelOf}
            onZoom={onZoom}
            onSelect={onSelect}
            onPin={onPin}
          />
        </div>
        <Tabs.Root
          className={styles.side}
          value={state.panel}
          onValueChange={(panel) => change({ panel: panel as Panel })}
        >
          <Tabs.List className={styles.tabs} aria-label="Beside the graph">
            {PANELS.map(([value, label]) => (
              <Tabs.Trigger key={value} value={value}>
                {label}
                {value === "groups" && groups.length > 0 && ` ${groups.length}`}
              </Tabs.Trigger>
            ))}
          </Tabs.List>
          <Tabs.Content value="about" className={styles.panel}>
            <AboutPanel circuit={circuit} />
          </Tabs.Content>
          <Tabs.Content value="node" className={styles.panel}>
            <NodePanel
              graph={named}
              shown={calm}
              node={selected}
              pinned={pinned}
              groups={groups}
              features={features}
              labelOf={labelOf}
              onSelect={onSelect}
              onPin={onPin}
              onGroup={may ? onGroup : null}
              onNewGroup={setNaming}
            />
          </Tabs.Content>
          <Tabs.Content value="groups" className={styles.panel}>
            <GroupsPanel
              groups={groups}
              collapsed={state.collapsed}
              pinned={state.pinned}
              may={may}
              onCollapse={(collapsed) => change({ collapsed })}
              onChange={(next) => {
                setGroups(next);
                const names = new Set(next.map(({ name }) => name));
                change({ collapsed: state.collapsed.filter((name) => names.has(name)) });
              }}
              onGroupPinned={() => setNaming(state.pinned)}
              onSelect={(own) => change({ selected: own, panel: "node" })}
            />
          </Tabs.Content>
          <Tabs.Content value="table" className={styles.panel}>
            <TablePanel
              graph={named}
              shown={calm}
              selected={selected}
              labelOf={labelOf}
              onSelect={onSelect}
            />
          </Tabs.Content>
        </Tabs.Root>
      </div>
      <NameDialog
        key={String(naming)}
        ids={naming}
        taken={groups.map(({ name }) => name)}
        onClose={() => setNaming(null)}
        onName={(name, ids) => {
          setGroups(ids.reduce((all, own) => moved(all, own, name), groups));
          setNaming(null);
        }}
      />
      <Dialog
        open={conflict !== null}
        onOpenChange={(open) => {
          if (!open) setConflict(null);
        }}
        title="Somebody else saved meanwhile"
        description={`${conflict?.author ?? "Somebody"} changed pins or supernodes of this circuit after you opened it.`}
      >
        <DialogActions>
          <Button
            onClick={() => {
              if (conflict === null) return;
              setGroups(conflict.supernodes);
              setBase(conflict);
              change({ pinned: conflict.pinned });
              setConflict(null);
            }}
          >
            Take theirs
          </Button>
          <Button
            kind="primary"
            busy={busy}
            onClick={() => {
              if (conflict !== null) void write(conflict.revision);
            }}
          >
            Keep mine in place of theirs
          </Button>
        </DialogActions>
      </Dialog>
    </div>
  );
}

const PANELS: readonly [Panel, string][] = [
  ["about", "About"],
  ["node", "Node"],
  ["groups", "Supernodes"],
  ["table", "Table"],
];

interface NameDialogProps {
  ids: readonly string[] | null;
  taken: readonly string[];
  onClose: () => void;
  onName: (name: string, ids: readonly string[]) => void;
}

function NameDialog({ ids, taken, onClose, onName }: NameDialogProps) {
  const [name, setName] = useState("");
  const plain = name.trim();
  return (
    <Dialog
      open={ids !== null}
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
      title="Name the supernode"
      description={`${ids?.length ?? 0} ${ids?.length === 1 ? "node" : "nodes"} that mean one thing together.`}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (plain !== "" && ids !== null) onName(plain, ids);
        }}
      >
        <Field
          label="Name"
          hint={taken.includes(plain) ? "There is one of this name; the nodes join it." : "Such as “say a city”."}
        >
          {(field) => (
            <input {...field} value={name} maxLength={200} onChange={(event) => setName(event.target.value)} />
          )}
        </Field>
        <DialogActions>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" disabled={plain === ""}>
            Group
          </Button>
        </DialogActions>
      </form>
    </Dialog>
  );
}

/** Groups with a node in one of them and in no other; groups that lose their last node go. */
export function moved(groups: readonly Supernode[], id: string, name: string): Supernode[] {
  const without = groups
    .map((group) => ({ ...group, nodes: group.nodes.filter((own) => own !== id) }))
    .filter((group) => group.nodes.length > 0 || group.name === name);
  if (name === "") return without;
  return without.some((group) => group.name === name)
    ? without.map((group) => (group.name === name ? { ...group, nodes: [...group.nodes, id] } : group))
    : [...without, { name, nodes: [id] }];
}

/** The name of a circuit on the page. */
export function titleOf({ found, imported }: Circuit): string {
  if (found !== null) return found.risk_class;
  return imported?.metadata.slug || imported?.metadata.prompt?.slice(0, 60) || "Imported graph";
}

/** What nodes are called: what people call them first, then what their card suggests. */
function labeller(graph: Graph, features: Features): (node: number) => string {
  return (node) => {
    const { id, name, title, kind } = at(graph.nodes, node);
    const known = features.summaries.get(id);
    if (known?.label) return `${name} ${known.label}`;
    if (known !== undefined) return `${name} ↑ ${known.promoted.map((token) => token.trim()).join(" ")}`;
    if (kind === "error" && graph.form === "contrast") return "left out by the dictionary";
    if (graph.form === "contrast") return kind === "head" || kind === "mlp" ? id.replace("layer", "L") : name;
    return title || name;
  };
}

/** The graph with the names that people gave, for the drawing. */
function withNames(graph: Graph, features: Features): Graph {
  if (features.summaries.size === 0) return graph;
  const nodes = graph.nodes.map((node) => {
    const known = features.summaries.get(node.id);
    if (known === undefined) return node;
    const said = known.label ?? known.promoted[0]?.trim();
    return said ? { ...node, name: `${node.name} ${known.label ? said : `↑${said}`}` } : node;
  });
  return { ...graph, nodes };
}
