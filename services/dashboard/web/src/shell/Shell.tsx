"use client";

import Link from "next/link";
import { usePathname } from "next/navigation";
import { Suspense, useEffect, type ReactNode } from "react";

import { CallerProvider, useSession, type Caller } from "@/api/session";
import { ErrorState } from "@/ui/ErrorState";
import { Loading } from "@/ui/Loading";
import { PermissionState } from "@/ui/PermissionState";
import { Toasts } from "@/ui/Toasts";

import { PAGES, pageOf } from "./pages";
import { Person } from "./Person";
import styles from "./Shell.module.css";
import { SignIn } from "./SignIn";

/** What stands around every page: navigation, who is signed in, and nothing for those who are not. */
export function Shell({ children }: { children: ReactNode }) {
  const session = useSession();
  const path = usePathname();
  if (session.data === undefined) {
    return (
      <main className={styles.alone}>
        {session.error ? (
          <ErrorState problem={session.error} retry={() => void session.refetch()} />
        ) : (
          <Loading what="the dashboard" />
        )}
      </main>
    );
  }
  const { caller } = session.data;
  if (caller === null) return <SignIn oidc={session.data.oidc} />;
  return (
    <CallerProvider caller={caller}>
      <Toasts>
        <Frame caller={caller} path={path}>
          {children}
        </Frame>
      </Toasts>
    </CallerProvider>
  );
}

function Frame({ caller, path, children }: { caller: Caller; path: string; children: ReactNode }) {
  const here = pageOf(path);
  const allowed = here === undefined || caller.scopes.includes(here.needs);
  useEffect(() => {
    document.title = here ? `${here.label} · InterpretOps` : "InterpretOps";
  }, [here]);
  return (
    <div className={styles.frame}>
      <a className={styles.skip} href="#content">
        Skip to the content
      </a>
      <header className={styles.side}>
        <Link href="/" className={styles.brand}>
          <Mark />
          <span>InterpretOps</span>
        </Link>
        <nav aria-label="Pages" className={styles.nav}>
          <ul>
            {PAGES.map((page) => (
              <li key={page.path}>
                <Link
                  href={page.path}
                  title={page.label}
                  aria-current={page === here ? "page" : undefined}
                  data-locked={caller.scopes.includes(page.needs) ? undefined : ""}
                >
                  <page.icon size={17} aria-hidden />
                  <span>{page.label}</span>
                </Link>
              </li>
            ))}
          </ul>
        </nav>
        <Person caller={caller} />
      </header>
      <main id="content" className={styles.content} tabIndex={-1}>
        <Suspense fallback={<Loading what="the page" />}>
          {allowed ? children : <PermissionState needs={here.needs} />}
        </Suspense>
      </main>
    </div>
  );
}

function Mark() {
  return (
    <svg width="22" height="22" viewBox="0 0 22 22" aria-hidden>
      <g fill="none" stroke="currentColor" strokeWidth="1.6">
        <path d="M5 17 11 11 17 5M11 11 17 17M5 5 11 11" />
      </g>
      <g fill="currentColor">
        <circle cx="5" cy="5" r="2.4" />
        <circle cx="5" cy="17" r="2.4" />
        <circle cx="17" cy="5" r="2.4" />
        <circle cx="17" cy="17" r="2.4" />
        <circle cx="11" cy="11" r="3" />
      </g>
    </svg>
  );
}
