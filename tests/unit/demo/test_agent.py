import json
import threading
import time
from pathlib import Path

from dslmodel.demo.agent import Agent
from dslmodel.demo.work import stamp, write


def _hand_out(directory: Path, count: int) -> None:
    for number in range(count):
        write(
            directory / f"work_{number:03}.json", {"id": f"{number:03}", "status": "pending", "created": stamp(), "extra": {"kept": True}}
        )


def _work_until_done(directory: Path, agents: int, count: int) -> None:
    fleet = [Agent(directory, str(number)) for number in range(agents)]
    threads = [threading.Thread(target=agent.run) for agent in fleet]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 1.8
    while len(list(directory.glob("completed_*.json"))) < count and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    for agent in fleet:
        agent.ended.set()
    for thread in threads:
        thread.join()


def test_each_piece_of_work_is_done_once_by_one_of_many_agents(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dslmodel.demo.agent._WORK_SECONDS", (0.0, 0.002))
    _hand_out(tmp_path, 40)
    _work_until_done(tmp_path, agents=4, count=40)
    done = [json.loads(path.read_text()) for path in tmp_path.glob("completed_*.json")]
    assert sorted(document["id"] for document in done) == [f"{number:03}" for number in range(40)]
    assert all(document["status"] == "completed" and document["extra"] == {"kept": True} for document in done)
    assert {"claimed_by", "claimed_at", "finished", "result"} <= done[0].keys()
    assert not list(tmp_path.glob("work_*")) + list(tmp_path.glob("claimed_*")) + list(tmp_path.glob(".*"))


def test_agent_signs_on_with_a_heartbeat_and_signs_off(tmp_path: Path):
    agent = Agent(tmp_path, "a")
    thread = threading.Thread(target=agent.run)
    thread.start()
    sheet = tmp_path / "agent_a.json"
    deadline = time.monotonic() + 1.5
    while not sheet.exists() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    document = json.loads(sheet.read_text())
    agent.ended.set()
    thread.join()
    assert {"id", "status", "created", "last_heartbeat", "pid"} <= document.keys()
    assert not sheet.exists()
