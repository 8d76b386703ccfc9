"""The way through the product, step by step, each step something a person does."""

import io
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from infra.demo.datasets import DemoSite, DemoStudy, write_dataset
from infra.demo.machine import Machine, MachineError
from infra.demo.person import Person, RefusedError

USERNAMES = {"administrator": "ann", "data_scientist": "dana", "auditor": "otto"}
ONLINE_LIMIT_S, ONLINE_LIMIT_PER_SITE_S = 120, 40
RUN_LIMIT_S = 900  # six sites and ten labels on two cores
TEACHING_REASON = "Teaching study: shows the personalised model although no difference is proven"


@dataclass
class Journey:
    """Everything the demo has done so far; ``say`` prints one plain sentence."""

    machine: Machine
    study: DemoStudy
    data_home: Path | None
    say: Callable[[str], None]
    run_id: str = ""
    run: dict[str, Any] = field(default_factory=dict)

    def person(self, role: str, site: DemoSite | None = None) -> Person:
        """Sign in as the person of this role (clinicians and operators belong to a site)."""
        name = username(role, site)
        password = self.machine.facts["passwords"][role]
        return Person(self.machine.origin, name, password)

    def wait_for_portal(self) -> None:
        """Wait until the portal answers."""
        for _ in self._patience(60, "the portal to answer"):
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.machine.origin}/accounts/login/").status_code == 200:
                    return

    def add_sites(self, sites: tuple[DemoSite, ...]) -> None:
        """Administrator: add each hospital, hand over its link. Operator: fetch kit, add data, start."""
        ann = self.person("administrator")
        known = {site["name"] for site in ann.json("/sites/status.json")["sites"]}
        for site in sites:
            home = self.machine.sites_home / site.name
            if site.name in known and not (home / "start.sh").exists():
                raise MachineError(
                    f"{site.name} is known but its kit is gone. Run `make clean`, then start again."
                )
            if site.name not in known:
                self.say(f"{site.title}: added in the portal, kit fetched with its one-time link")
                self._fetch_kit(self._kit_link(ann, site), home)
                write_dataset(self.study, site, home / "data" / self.study.dataset, data_home=self.data_home)
            self.machine.start_site(home)

    def _kit_link(self, ann: Person, site: DemoSite) -> str:
        fields = {
            "name": site.name,
            "title": site.title,
            "organisation": site.organisation,
            "zone": site.zone,
        }
        page = ann.submit("/sites/add/", fields).text
        marker = page.find('id="kit-link"')
        if marker < 0:
            raise RefusedError(f"The portal showed no kit link for {site.name}.")
        element = page[page.rfind("<", 0, marker) : page.find(">", marker)]
        return element.split('value="', 1)[1].split('"', 1)[0]

    def _fetch_kit(self, link: str, home: Path) -> None:
        with httpx.Client(timeout=30) as browser:
            for _ in self._patience(60, "the kit to be built"):
                sheet = browser.get(link)
                answer = browser.post(
                    link,
                    data={"csrfmiddlewaretoken": browser.cookies.get("csrftoken", "")},
                    headers={"Referer": link, "Origin": self.machine.origin},
                )
                if answer.headers.get("content-type") == "application/zip":
                    break
                if sheet.status_code >= 400:
                    raise RefusedError(f"The kit link answered {sheet.status_code}.")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as kit:
            kit.extractall(home)
        (home / "start.sh").chmod(0o755)
        # as an operator would who trusts this federation's studies: no click for each run
        (home / "policy.toml").write_text('[approval]\nmode = "standing"\n', encoding="utf-8")

    def wait_online(self, names: list[str]) -> None:
        """Wait until the sites are green: registered with NVFlare and heard from."""
        ann = self.person("administrator")
        offline: list[str] = list(names)
        limit_s = max(ONLINE_LIMIT_S, ONLINE_LIMIT_PER_SITE_S * len(names))
        for _ in self._patience(limit_s, lambda: f"sites to come online: {'; '.join(offline)}"):
            rows = {row["name"]: row for row in ann.json("/sites/status.json")["sites"]}
            offline[:] = [f"{name} ({rows[name]['missing']})" for name in names if not rows[name]["online"]]
            if not offline:
                return

    def add_people(self) -> None:
        """Administrator: one login per role; a clinician and an operator for every site."""
        ann = self.person("administrator")
        listed = ann.page("/people/")
        wanted: list[tuple[str, DemoSite | None]] = [("data_scientist", None), ("auditor", None)]
        wanted += [(role, site) for role in ("site_operator", "clinician") for site in self.study.sites]
        for role, site in wanted:
            name = username(role, site)
            if f">{name}<" in listed or f'"{name}"' in listed:
                continue
            password = self.machine.facts["passwords"][role]
            fields = {"username": name, "role": role, "password1": password, "password2": password}
            ann.submit("/people/add/", {**fields, "site": site.name if site else ""})

    def open_study_and_run(self, algorithm: str) -> None:
        """Data scientist: open the study, submit the run."""
        dana, study = self.person("data_scientist"), self.study
        if study.slug not in dana.page("/studies/"):
            fields: dict[str, Any] = {
                "slug": study.slug, "title": study.title, "purpose": study.purpose, "dataset": study.dataset,
                "kind": study.kind, "labels": "\n".join(study.labels), "features": "\n".join(study.features),
                "channels": 3, "height": study.pixels, "width": study.pixels, "teaching": "on",
            }  # fmt: skip
            dana.submit("/studies/add/", fields)
        answer = dana.submit(
            "/runs/add/",
            {
                "study": study.slug, "algorithm": algorithm, "model": study.model, "rounds": study.rounds,
                # a fresh one: sites refuse the same seed with another cohort, which would isolate one of them
                "seed": secrets.randbelow(2**31), "min_sites": 3,
                "sites": [site.name for site in study.sites], **study.settings,
            },
            form_page=f"/runs/add/?study={study.slug}&algorithm={algorithm}&model={study.model}",
        )  # fmt: skip
        self.run_id = str(answer.url).rstrip("/").rsplit("/", 1)[-1]
        self.say(f"run submitted: {self.machine.origin}/runs/{self.run_id}/")

    def follow_run(self) -> None:
        """Wait for the run to end; say each committed round. Raises MachineError when it failed."""
        dana, said = self.person("data_scientist"), 0
        for _ in self._patience(RUN_LIMIT_S, "the run to complete", pause_s=2):
            self.run = dana.json(f"/runs/{self.run_id}/data.json")
            for row in self.run["rounds"][said:]:
                self.say(f"round {row['number']} of {self.study.rounds} committed")
                said += 1
            if self.run["state"] == "COMPLETED":
                return
            if self.run["state"] in {"FAILED", "STOPPED"}:
                raise MachineError(f"The run ended as {self.run['state']}: {self.run['error']}")

    def promote(self) -> dict[str, str]:
        """Administrator: promote at each site the personalised model; name the arm now serving there."""
        ann = self.person("administrator")
        chosen: dict[str, dict[str, Any]] = {}
        for version in self.run["versions"]:
            for row in version["site_models"]:
                if row["arm"] == "personal" or row["site"] not in chosen:
                    chosen[row["site"]] = row
        for row in chosen.values():
            reason = "" if row["proposal"] else TEACHING_REASON
            ann.submit(
                f"/site-models/{row['id']}/promote/", {"reason": reason}, form_page=f"/runs/{self.run_id}/"
            )
        return {site: row["arm"] for site, row in chosen.items()}

    def ask(self, site: DemoSite) -> dict[str, Any]:
        """Clinician: ask the model of the own institution; the request goes straight to the site."""
        cleo = self.person("clinician", site)
        promotion = self._promotion_on(cleo)
        folder = self.machine.sites_home / site.name / "data" / self.study.dataset
        request = self.study.case(site, folder)
        answer = httpx.Response(503)
        for _ in self._patience(60, f"{site.name} to serve the promoted model"):
            ticket = cleo.submit("/clinic/ticket/", {"promotion": promotion}, form_page="/clinic/").json()
            headers = {"Authorization": f"Ticket {ticket['ticket']}", "Origin": self.machine.origin}
            answer = httpx.post(f"{ticket['url']}/v1/predict", headers=headers, timeout=30, **request)
            if answer.status_code == 200:
                break
            if answer.status_code not in {404, 409, 503}:
                raise RefusedError(f"{site.name} refused to answer: {answer.text[:300]}")
        result: dict[str, Any] = answer.json()
        return result

    def _promotion_on(self, cleo: Person) -> str:
        page = cleo.page("/clinic/")
        marker = 'data-promotion="'
        if marker not in page:
            raise RefusedError("The clinic page shows no promoted model.")
        return page.split(marker, 1)[1].split('"', 1)[0]

    def verify_audit(self) -> dict[str, int]:
        """Auditor: recompute the hash of every entry."""
        answer: dict[str, int] = self.person("auditor").submit(
            "/audit/verify/", {}, form_page="/audit/"
        ).json()  # fmt: skip
        return {"entries": answer["entries"], "verified": answer["verified"]}

    def _patience(
        self, limit_s: float, what: str | Callable[[], str], *, pause_s: float = 0.5
    ) -> Iterator[None]:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.machine.check_alive()
            yield
            time.sleep(pause_s)
        waited_for = what if isinstance(what, str) else what()
        raise MachineError(f"Waited {limit_s:.0f} s for {waited_for}. Logs are below {self.machine.folder}.")


def username(role: str, site: DemoSite | None) -> str:
    """``ann``, ``dana``, ``otto``; ``cleo-<site>`` and ``ivan-<site>`` for people who belong to a site."""
    if role in USERNAMES:
        return USERNAMES[role]
    prefix = "cleo" if role == "clinician" else "ivan"
    return f"{prefix}-{site.name}" if site else prefix
