"""A service to copy: recommendations and events over HTTP, by one process that keeps each user's state in memory.

pip install fastapi uvicorn;  MODEL=saved/... uvicorn service:app --app-dir docs
"""

import os
from collections import OrderedDict
from typing import Annotated

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from recbole_metarec import Recommender
from recbole_metarec.errors import MetaRecError

torch.set_num_threads(1)  # requests are small: what a second thread saves, waiting for it costs
recommender, app = Recommender.load(os.environ["MODEL"]), FastAPI()
MOST_USERS, MOST_BYTES = 100_000, 65_536
users = OrderedDict()  # name -> (state, items seen); who was away for longest is forgotten: a shop would store it
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Event(BaseModel):
    user: Name
    item: Name


class Question(BaseModel):
    user: Name
    k: int = Field(10, ge=1, le=100)


@app.middleware("http")
async def refuse_large_bodies(request: Request, call_next):
    length = request.headers.get("content-length", "" if request.method == "POST" else "0")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return JSONResponse({"detail": f"a body of at most {MOST_BYTES} bytes, with its length"}, 413)
    return await call_next(request)


@app.exception_handler(MetaRecError)
async def refused(request: Request, error: MetaRecError):
    return JSONResponse({"detail": str(error)}, 422)


@app.get("/health")
async def health():
    return {"model": repr(recommender), "users": len(users)}


# async without await: one request at a time comes in here, so no event of a user gets lost between two
@app.post("/event")
async def event(event: Event):
    state, seen = users.get(event.user, (recommender.start(), frozenset()))
    users[event.user] = recommender.add(state, event.item), seen | {event.item}
    users.move_to_end(event.user)
    if len(users) > MOST_USERS:
        users.popitem(last=False)
    return {"seen": len(users[event.user][1])}


@app.post("/recommend")
async def recommend(question: Question):
    state, seen = users.get(question.user, (recommender.start(), frozenset()))
    return [{"item": item, "score": score} for item, score in recommender.top(state, question.k, seen)]
