import { Button } from "./Button";
import styles from "./More.module.css";

interface MoreProps {
  /** What TanStack Query's infinite query gives. */
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}

/** The button at the end of a list that goes on. */
export function More({ query }: MoreProps) {
  if (!query.hasNextPage) return null;
  return (
    <p className={styles.more}>
      <Button busy={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
        Show more
      </Button>
    </p>
  );
}

/** Goes from one page of the edge's lists to the next. */
export const PAGED = {
  pageParamName: "cursor",
  initialPageParam: null as string | null, // not undefined, which would be asked for as 0
  getNextPageParam: (page: { next_cursor?: string | null }) => page.next_cursor ?? null,
};
