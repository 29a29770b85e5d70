import { Overview } from "@/features/overview/Overview";

/** Where the identity provider's answer leads when it failed. Who is signed in all the same sees the overview. */
export default function SignInPage() {
  return <Overview />;
}
