"""The gateway that most teams write first: FastAPI in front, one shared httpx client behind."""

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

SERVICES = dict.fromkeys(os.environ["BENCH_SERVICES"].split(","), os.environ["BENCH_UPSTREAM"])
SECRET = os.environ.get("BENCH_SECRET", "")
NOT_FORWARDED = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}
LIMITS = httpx.Limits(max_connections=256, max_keepalive_connections=256)

log = logging.getLogger("gateway")
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every call a second time


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(limits=LIMITS, timeout=15.0) as client:
        application.state.client = client
        yield


# auto_error is off: FastAPI's own answer to a missing token has been 403 and 401 in turn.
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def check_token(credentials: Credentials) -> None:
    try:
        token = credentials.credentials if credentials else ""
        jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "a valid token is required") from error


app = FastAPI(lifespan=lifespan, dependencies=[Depends(check_token)] if SECRET else [])


@app.api_route("/api/v1/{service}/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def forward(service: str, rest: str, request: Request) -> Response:
    started = time.perf_counter()
    if service not in SERVICES:
        raise HTTPException(404, "no such service")
    headers = {k: v for k, v in request.headers.items() if k not in NOT_FORWARDED}
    request_id = headers.setdefault("x-request-id", str(uuid.uuid4()))
    headers["x-forwarded-for"] = request.client.host if request.client else ""
    answer = await request.app.state.client.request(
        request.method,
        f"{SERVICES[service]}/api/v1/{service}/{rest}",
        params=request.query_params,
        headers=headers,
        content=await request.body(),
    )
    kept = {k: v for k, v in answer.headers.items() if k not in NOT_FORWARDED}
    record = {
        "time": time.time(),
        "request_id": request_id,
        "client_ip": headers["x-forwarded-for"],
        "method": request.method,
        "path": request.url.path,
        "status": answer.status_code,
        "bytes_out": len(answer.content),
        "duration_ms": (time.perf_counter() - started) * 1000,
    }
    log.info(json.dumps(record))
    return Response(answer.content, answer.status_code, {**kept, "x-request-id": request_id})
