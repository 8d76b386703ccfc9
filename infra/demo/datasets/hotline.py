"""Requests of citizens in six invented provinces: synthetic, made by ``infra.demo.tickets``.

The provinces keep their requests as such offices do: one in a workbook, one in GB18030, each with its own
names of columns. The manifest says which column is which.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from infra.demo.datasets.study import SEED, DemoSite, DemoStudy
from infra.demo.tickets import DEPARTMENTS, PROVINCES, Ticket, write_tickets

REQUESTS = 900  # of each province
CHINESE = {"value": "诉求内容", "label": "承办部门", "group": "来电人编号"}
ENGLISH = {"value": "text", "label": "label", "group": "group"}
WORKBOOK_AT, GB18030_AT, ENGLISH_AT = "guandong", "jiangnan", "lingnan"


def hotline(requests: int = REQUESTS) -> DemoStudy:
    """The study on synthetic hotline requests, so many of each province."""
    sites = tuple(
        DemoSite(name, f"{title} hotline (synthetic)", f"{name.capitalize()}_Hotline", "cn", index=i)
        for i, (name, title) in enumerate(PROVINCES.items())
    )
    return DemoStudy(
        slug="hotline-intent",
        title="Hotline requests: which department (synthetic data)",
        purpose="Send a request to the department that deals with it, as the province does. "
        "Synthetic data (合成数据): every request was made by a program, no caller exists.",
        dataset="hotline-intent",
        kind="text",
        labels=DEPARTMENTS,
        features=(),
        model="text_hash",
        rounds=12,
        sites=sites,
        write=lambda site, folder, _data_home: write(site, folder, requests),
        case=lambda site, _folder: {"json": {"records": [new_request(site)]}},
        settings={"hp_local_epochs": 2, "hp_batch_size": 32, "arg_buckets": 8192},
        algorithm="fedcp",  # a head of its own at each province: they route some topics differently
        synthetic=True,
    )


def new_request(site: DemoSite) -> str:
    """A request that is in no site's data."""
    return write_tickets(site.name, 1, seed=SEED + 1)[0].text


def write(site: DemoSite, folder: Path, requests: int) -> dict[str, Any]:
    """The province's requests in the form its office keeps them."""
    tickets = write_tickets(site.name, requests, seed=SEED)
    columns = ENGLISH if site.name == ENGLISH_AT else CHINESE
    if site.name == WORKBOOK_AT:
        _write_workbook(folder / "tickets.xlsx", list(columns.values()), tickets)
        return {"file": "tickets.xlsx", "sheet": "工单", **columns}
    encoding = "gb18030" if site.name == GB18030_AT else "utf-8"
    with (folder / "tickets.csv").open("w", newline="", encoding=encoding) as handle:
        writer = csv.writer(handle)
        writer.writerow(columns.values())
        writer.writerows((ticket.text, ticket.department, ticket.caller) for ticket in tickets)
    return {"file": "tickets.csv", "encoding": encoding, **columns}


def _write_workbook(path: Path, header: Sequence[str], tickets: Sequence[Ticket]) -> None:
    book = Workbook(write_only=True)
    book.create_sheet("说明").append(["合成数据：由程序生成，没有真实来电人。"])
    sheet = book.create_sheet("工单")
    sheet.append(header)
    for ticket in tickets:
        sheet.append([ticket.text, ticket.department, ticket.caller])
    book.save(path)
