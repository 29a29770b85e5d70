import type { Metadata, Viewport } from "next";
import type { ReactNode } from "react";

import { Providers } from "@/shell/Providers";
import { Shell } from "@/shell/Shell";

import "@/ui/tokens.css";
import "./globals.css";

export const metadata: Metadata = {
  title: { default: "InterpretOps", template: "%s · InterpretOps" },
  description: "See the circuit, try the policy, trust the card.",
  robots: { index: false, follow: false },
};

export const viewport: Viewport = {
  width: "device-width",
  initialScale: 1,
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f7f8fa" },
    { media: "(prefers-color-scheme: dark)", color: "#0f1216" },
  ],
};

/** Before the first paint, so that a page chosen dark is never light for a moment. */
const THEME = `try{var t=localStorage.getItem("theme");if(t)document.documentElement.dataset.theme=t}catch{}`;

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en" suppressHydrationWarning>
      <head>
        {/* The server puts the nonce of this answer here: see `src/api/nonce.ts`. */}
        <meta property="csp-nonce" content="__CSP_NONCE__" suppressHydrationWarning />
        <script dangerouslySetInnerHTML={{ __html: THEME }} />
      </head>
      <body>
        <Providers>
          <Shell>{children}</Shell>
        </Providers>
      </body>
    </html>
  );
}
