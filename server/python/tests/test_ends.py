"""Calls that end early: signals, closed clients, forks, dead daemons, cancelled tasks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import unittest
import warnings
from collections.abc import Callable

import numpy as np

import suf
from processes import daemon, standing_still

X = np.linspace(-4, 4, 100)
GONE = "cancelled at both parties"


def works(client: suf.Client) -> bool:
    return client.evaluate(X, gate="gelu", protocol="onehot").shape == X.shape


class Interrupted(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.client = suf.local(backend="cpu")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def test_ctrl_c_cancels_the_run_at_both_parties(self) -> None:
        begun = threading.Event()

        def press() -> None:
            begun.wait()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with standing_still("dealer"), self.assertRaises(KeyboardInterrupt) as caught:
            self.client.evaluate(X, gate="gelu", protocol="onehot", progress=lambda *_: begun.set())
        thread.join()
        cause = caught.exception.__cause__
        self.assertIsInstance(cause, suf.InterruptedCall)
        self.assertIn(GONE, str(cause))
        self.assertTrue(works(self.client), "the client and the daemons go on")

    def test_an_exception_of_progress_cancels_the_run(self) -> None:
        def told(*_: object) -> None:
            raise LookupError("enough")

        with standing_still("dealer"), self.assertRaisesRegex(LookupError, "enough") as caught:
            self.client.evaluate(X, gate="gelu", protocol="onehot", progress=told)
        self.assertIn(GONE, str(caught.exception.__cause__))
        self.assertTrue(works(self.client))

    def test_a_cancelled_task_cancels_the_run(self) -> None:
        async def cancel() -> None:
            loop, begun = asyncio.get_running_loop(), asyncio.Event()

            def told(*_: object) -> None:
                loop.call_soon_threadsafe(begun.set)

            task = asyncio.create_task(
                self.client.evaluate_async(X, gate="gelu", protocol="onehot", progress=told)
            )
            await begun.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertTrue(task.cancelled())

        with standing_still("dealer"):
            asyncio.run(cancel())
        self.assertTrue(works(self.client))

    def test_many_tasks_share_a_client(self) -> None:
        async def many() -> list[np.ndarray]:
            return await asyncio.gather(*(self.client.evaluate_async(X, gate="gelu") for _ in range(6)))

        self.assertEqual(len(asyncio.run(many())), 6)

    def test_a_deadline_ends_the_run_and_blames_who_was_waited_for(self) -> None:
        with standing_still("dealer"), self.assertRaises(suf.DealerError) as caught:
            self.client.evaluate(X, gate="gelu", protocol="onehot", deadline=0.2)
        self.assertIn("deadline", str(caught.exception))
        self.assertTrue(works(self.client))


class Closed(unittest.TestCase):
    def test_a_closed_client_takes_no_calls(self) -> None:
        client = suf.local()
        self.assertFalse(client.closed)
        processes = [daemon(name) for name in ("dealer", "party0", "party1")]
        client.close()
        client.close()
        self.assertTrue(client.closed)
        self.assertIn("closed", repr(client))
        for process in processes:
            self.assertFalse(os.path.exists(f"/proc/{process}"), "the daemons have ended")
        with self.assertRaises(suf.ClosedError):
            works(client)
        with self.assertRaises(suf.ClosedError):
            asyncio.run(client.evaluate_async(X, gate="gelu"))

    def test_closing_ends_calls_of_other_threads(self) -> None:
        client = suf.local()
        begun = threading.Event()
        caught: list[BaseException] = []

        def call() -> None:
            try:
                client.evaluate(X, gate="gelu", protocol="onehot", progress=lambda *_: begun.set())
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        with standing_still("dealer"):
            thread.start()
            begun.wait()
            # The dealer is stopped again when it goes on.
            closing = threading.Thread(target=client.close)
            closing.start()
            thread.join()
        closing.join()
        [error] = caught
        self.assertIsInstance(error, suf.InterruptedCall)
        self.assertIn(GONE, str(error))

    def test_a_fork_leaves_the_client_to_the_original(self) -> None:
        client = suf.local()
        child = fork(lambda: raises(suf.ClosedError, lambda: works(client)) and client.closed)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertTrue(works(client), "the end of the copy ends nothing here")
        # A copy that lives on keeps no daemon alive.
        ours, theirs = os.pipe()
        child = fork(lambda: os.read(ours, 1) == b"x")
        process = daemon("dealer")
        client.close()
        self.assertFalse(os.path.exists(f"/proc/{process}"))
        os.write(theirs, b"x")
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class Dead(unittest.TestCase):
    def test_a_party_that_dies_is_named(self) -> None:
        for name, place in (("party0", "party 0"), ("party1", "party 1")):
            with suf.local() as client:
                begun = threading.Event()
                process = daemon(name)

                def kill() -> None:
                    begun.wait()
                    os.kill(process, signal.SIGKILL)

                thread = threading.Thread(target=kill)
                thread.start()
                with self.assertRaises(suf.PeerError) as caught:
                    with standing_still("dealer"):
                        client.evaluate(X, gate="gelu", protocol="onehot", progress=lambda *_: begun.set())
                thread.join()
                # The system may tell of its end later than its connections do.
                self.assertRegex(str(caught.exception), f"the {name} died|{place}|the other party")
                with self.assertRaises(suf.PeerError):
                    works(client)

    def test_a_dealer_that_dies_is_named(self) -> None:
        with suf.local() as client:
            begun = threading.Event()
            process = daemon("dealer")

            def kill() -> None:
                begun.wait()
                os.kill(process, signal.SIGKILL)

            thread = threading.Thread(target=kill)
            thread.start()
            os.kill(process, signal.SIGSTOP)
            with self.assertRaises(suf.DealerError) as caught:
                client.evaluate(X, gate="gelu", protocol="onehot", progress=lambda *_: begun.set())
            thread.join()
            self.assertIn("the dealer", str(caught.exception))


def fork(work: Callable[[], bool]) -> int:
    """The process of a copy of this one that ends with 0 if `work` says yes."""
    with warnings.catch_warnings():
        # Python from 3.12 on warns where there are threads; this is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return child


def raises(kind: type[BaseException], work: Callable[[], object]) -> bool:
    try:
        work()
    except kind:
        return True
    return False


if __name__ == "__main__":
    unittest.main()
