import type { NextConfig } from "next";

const server = process.env.INTERPRETOPS_UI ?? "http://127.0.0.1:8090";
const developing = process.env.NODE_ENV === "development";

const config: NextConfig = {
  reactStrictMode: true,
  poweredByHeader: false,
  typedRoutes: false,
  devIndicators: false,
  productionBrowserSourceMaps: false,
  generateBuildId: () => "export", // the same sources make the same export
  images: { unoptimized: true },
  typescript: { ignoreBuildErrors: true }, // `make lint` checks types, and a build twice as fast is nicer
  ...(developing
    ? {
        // `mechctl serve-ui` answers for the platform while pages come from here.
        rewrites: () =>
          Promise.resolve([
            { source: "/api/:path*", destination: `${server}/api/:path*` },
            { source: "/session/:path*", destination: `${server}/session/:path*` },
            { source: "/session", destination: `${server}/session` },
          ]),
      }
    : { output: "export" as const }),
};

export default config;
