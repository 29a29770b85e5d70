"use client";

import { useState, type ReactNode } from "react";

import { Button } from "./Button";
import { Dialog, DialogActions } from "./Dialog";
import { useSay } from "./Toasts";

interface ConfirmProps {
  /** What the button says that asks. */
  label: ReactNode;
  title: string;
  /** What will happen, and whether it can be undone. */
  children: ReactNode;
  /** What the button says that does it. */
  action: string;
  danger?: boolean;
  small?: boolean;
  disabled?: boolean;
  /** Does it; what it throws is shown. */
  onConfirm: () => Promise<unknown>;
}

/** A button that asks before it does something. */
export function Confirm(props: ConfirmProps) {
  const { label, title, children, action, danger = false, small = false, disabled = false } = props;
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const say = useSay();
  const confirm = async () => {
    setBusy(true);
    try {
      await props.onConfirm();
      setOpen(false);
    } catch (error) {
      say.failed(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <Button
        small={small}
        kind={danger ? "danger" : "plain"}
        disabled={disabled}
        onClick={() => setOpen(true)}
      >
        {label}
      </Button>
      <Dialog open={open} onOpenChange={setOpen} title={title} description={children}>
        <DialogActions>
          <Button onClick={() => setOpen(false)}>Not now</Button>
          <Button kind={danger ? "danger" : "primary"} busy={busy} onClick={() => void confirm()}>
            {action}
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}
