import type { LucideIcon } from "lucide-react";
import Link from "next/link";
import type { ReactNode } from "react";

import button from "./Button.module.css";
import styles from "./LinkButton.module.css";

interface LinkButtonProps {
  href: string;
  kind?: "primary" | "plain" | "quiet";
  small?: boolean;
  icon?: LucideIcon;
  children: ReactNode;
}

/** A link to a page where something is done, looking like the button for it. */
export function LinkButton({ href, kind = "plain", small = false, icon: Icon, children }: LinkButtonProps) {
  return (
    <Link
      href={href}
      className={[button.button, button[kind], small && button.small, styles.link, styles[kind]]
        .filter(Boolean)
        .join(" ")}
    >
      {Icon && <Icon size={15} aria-hidden />}
      {children}
    </Link>
  );
}
