"""A Flask service as anybody might write it: it knows nothing of telemetry. Run with `opentelemetry-instrument python flask_shop.py`."""

import itertools
import time

from flask import Flask, request
from werkzeug.serving import make_server

app = Flask("shop")
trouble = {"fail": 0.0, "sleep": 0.0}
served = itertools.count()


@app.get("/items/<int:number>")
def item(number: int) -> tuple[dict[str, int], int]:
    time.sleep(0.004 + trouble["sleep"])
    if next(served) % 10 < trouble["fail"] * 10:
        return {"item": number}, 500
    return {"item": number}, 200


@app.put("/trouble")
def make_trouble() -> dict[str, float]:
    trouble.update({name: float(value) for name, value in request.args.items()})
    return trouble


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()
