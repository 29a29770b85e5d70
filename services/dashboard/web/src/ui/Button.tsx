import { LoaderCircle } from "lucide-react";
import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";

import styles from "./Button.module.css";

interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: "primary" | "plain" | "quiet" | "danger";
  /** Something is on its way: the button waits and says so. */
  busy?: boolean;
  small?: boolean;
  children: ReactNode;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({
  kind = "plain",
  busy = false,
  small = false,
  type = "button",
  children,
  className,
  disabled,
  ...rest
}: ButtonProps) {
  return (
    <button
      {...rest}
      type={type}
      disabled={disabled === true || busy}
      aria-busy={busy || undefined}
      className={[styles.button, styles[kind], small && styles.small, className]
        .filter(Boolean)
        .join(" ")}
    >
      {busy && <LoaderCircle size={15} className={styles.spin} aria-hidden />}
      {children}
    </button>
  );
}
