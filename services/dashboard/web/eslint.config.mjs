import next from "eslint-config-next/core-web-vitals";
import a11y from "eslint-plugin-jsx-a11y";
import { defineConfig, globalIgnores } from "eslint/config";
import typescript from "typescript-eslint";

export default defineConfig([
  globalIgnores([".next/**", "out/**", "next-env.d.ts", "src/api/schema.d.ts", "test-results/**"]),
  ...next,
  ...typescript.configs.strictTypeChecked,
  { rules: a11y.flatConfigs.strict.rules },
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-misused-promises": [
        "error",
        { checksVoidReturn: { attributes: false } },
      ],
      "no-console": "error",
    },
  },
  // Programs of the command line, which say what they find.
  { files: ["**/*.mjs"], extends: [typescript.configs.disableTypeChecked], rules: { "no-console": "off" } },
  // Playwright's fixtures hand over by `use`, which is no hook of React.
  { files: ["e2e/**"], rules: { "react-hooks/rules-of-hooks": "off" } },
]);
