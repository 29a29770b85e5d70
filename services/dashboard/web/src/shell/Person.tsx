"use client";

import { LogOut, Moon, Sun, SunMoon, UserRound } from "lucide-react";
import { DropdownMenu } from "radix-ui";

import { signOut, type Caller } from "@/api/session";
import { chooseTheme } from "@/ui/colours";
import menu from "@/ui/Menu.module.css";

import styles from "./Person.module.css";

/** Who is signed in, with the way out and the choice of light or dark. */
export function Person({ caller }: { caller: Caller }) {
  const leave = async () => {
    await signOut();
    window.location.reload(); // what was read is gone with it
  };
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger className={styles.person}>
        <UserRound size={17} aria-hidden />
        <span className={styles.who}>
          <span className={styles.name}>{caller.subject.replace(/^\w+:/, "")}</span>
          <span className={styles.role}>
            {caller.roles.join(", ")} · {caller.tenant}
          </span>
        </span>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className={menu.menu} side="top" align="start" sideOffset={6}>
          <DropdownMenu.Label className={menu.label}>
            {caller.subject} in {caller.tenant}
          </DropdownMenu.Label>
          <DropdownMenu.Item className={menu.item} onSelect={() => chooseTheme("light")}>
            <Sun size={15} aria-hidden /> Light
          </DropdownMenu.Item>
          <DropdownMenu.Item className={menu.item} onSelect={() => chooseTheme("dark")}>
            <Moon size={15} aria-hidden /> Dark
          </DropdownMenu.Item>
          <DropdownMenu.Item className={menu.item} onSelect={() => chooseTheme(null)}>
            <SunMoon size={15} aria-hidden /> As the system
          </DropdownMenu.Item>
          <DropdownMenu.Separator className={menu.separator} />
          <DropdownMenu.Item className={menu.item} onSelect={() => void leave()}>
            <LogOut size={15} aria-hidden /> Sign out
          </DropdownMenu.Item>
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
