"""The Celery application: one task, one queue per kind, and nothing that must not be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import ChannelError, KombuError
from redis.exceptions import RedisError

from interpretops_platform.jobs.relay import BrokerError

if TYPE_CHECKING:
    from interpretops_platform.settings import Settings

TASK = "interpretops.run_job"
_SOCKET_SECONDS = 5


def create_celery(settings: Settings) -> Celery:
    """An application for sending hints or, with the task registered, for working on them.

    Every process uses the same one: Redis requires equal visibility timeouts and priority steps.
    """
    app = Celery("interpretops", set_as_current=False)
    app.conf.update(
        broker_url=settings.redis.url.get_secret_value(),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": settings.redis.visibility_timeout_seconds,
            "priority_steps": list(range(10)),
            "queue_order_strategy": "priority",
            "sep": ":",
            "socket_timeout": _SOCKET_SECONDS,
            "socket_connect_timeout": _SOCKET_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        accept_content=["json"],
        task_serializer="json",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_create_missing_queues=True,
        task_time_limit=settings.jobs.time_limit_seconds,
        result_backend=None,
        worker_pool="prefork",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the lease decides, not Redis
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_proc_alive_timeout=60,
    )
    return app


class CeleryBroker:
    """Sends hints through Celery.

    Args:
        app: From `create_celery`.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, queue: str, job_id: str, priority: int) -> None:
        """Put a hint into a queue.

        Raises:
            BrokerError: When the broker did not take it.
        """
        try:
            # Without retries: the relay itself comes back, and must not hold its transaction open.
            self._app.send_task(
                TASK, args=[job_id], queue=queue, priority=priority, ignore_result=True, retry=False
            )
        except (KombuError, CeleryError, OSError, RedisError) as error:
            raise BrokerError(f"the broker refused a hint: {error}") from error

    def depth(self, queue: str) -> int:
        """How many hints wait in a queue.

        Raises:
            BrokerError: When the broker does not answer.
        """
        try:
            with self._app.connection_for_read() as connection:
                channel: Any = connection.default_channel
                try:
                    return int(channel.queue_declare(queue, passive=True).message_count)
                except ChannelError:
                    return 0  # Redis has no key for a list without elements
                finally:
                    channel.close()
        except (KombuError, OSError, RedisError) as error:
            raise BrokerError(f"the broker does not answer: {error}") from error
