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

from infra.demo import both_sides
from infra.demo.datasets import DemoSite, DemoStudy, write_dataset
from infra.demo.machine import Machine, MachineError
from infra.demo.operator import Operator
from infra.demo.person import BUSY, Person, RefusedError

USERNAMES = {"administrator": "ann", "data_scientist": "dana", "auditor": "otto"}
ONLINE_LIMIT_S, ONLINE_LIMIT_PER_SITE_S = 120, 40
RUN_LIMIT_S = 900  # six sites and ten labels on two cores
HAND_LIMIT_S = 3600  # a person reads what would leave
POLICY = '[approval]\nmode = "{mode}"\n'
TEACHING_REASON = "Teaching study: shows the personalised model although no difference is proven"


@dataclass
class Journey:
    """Everything the demo has done so far; ``say`` prints one plain sentence.

    ``by_hand``: the site whose operator approves each run in the site's console; the others have a rule.
    """

    machine: Machine
    study: DemoStudy
    data_home: Path | None
    say: Callable[[str], None]
    by_hand: DemoSite | None = None
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
        """Administrator: invite each hospital, link by mail, PIN by telephone. Operator: kit, data, start."""
        ann = self.person("administrator")
        known = {site["name"] for site in ann.json("/sites/status.json")["sites"]}
        for site in sites:
            home, invitation = self.machine.sites_home / site.name, {}
            if not (home / "flare" / "startup" / "client.crt").exists():
                self.say(f"{site.title}: invited in the portal, kit fetched with link and PIN")
                invitation = self.invite(ann, site, again=site.name in known)
                self.fetch_kit(home, **invitation)
                data = home / "data" / self.study.dataset
                if not data.exists():
                    write_dataset(self.study, site, data, data_home=self.data_home)
            policy = home / "policy.toml"
            if site == self.by_hand or not policy.exists():
                # "standing" is for who trusts this federation's studies: no click for each run
                mode = "ask" if site == self.by_hand else "standing"
                policy.write_text(POLICY.format(mode=mode), encoding="utf-8")
            self.machine.start_site(home, **invitation)

    def invite(self, ann: Person, site: DemoSite, *, again: bool) -> dict[str, str]:
        """Link and PIN as the portal shows them, once."""
        fields = {
            "name": site.name,
            "title": site.title,
            "organisation": site.organisation,
            "zone": site.zone,
            "contact": f"it@{site.name}.example",
            "language": "en",
        }
        if again:
            page = ann.submit(f"/sites/{site.name}/kit/", {}, form_page=f"/sites/{site.name}/").text
        else:
            page = ann.submit("/sites/add/", fields).text
        return {"link": _shown(page, "kit-link"), "pin": _shown(page, "kit-pin")}

    def fetch_kit(self, home: Path, link: str, pin: str) -> None:
        """Operator: open the link, type the PIN, unpack what comes into ``home``."""
        with httpx.Client(timeout=30) as browser:
            for _ in self._patience(60, "the kit to be built"):
                sheet = browser.get(link)
                if sheet.status_code == BUSY:
                    continue
                if sheet.status_code >= 400:
                    raise RefusedError(f"The kit link answered {sheet.status_code}.")
                if 'id="get-kit"' not in sheet.text:
                    continue
                fields = {"csrfmiddlewaretoken": browser.cookies.get("csrftoken", ""), "pin": pin}
                headers = {"Referer": link, "Origin": self.machine.origin}
                answer = browser.post(link, data=fields, headers=headers)
                if answer.status_code != BUSY:
                    break
        if answer.headers.get("content-type") != "application/zip":
            raise RefusedError(f"The portal gave no kit for {home.name} (HTTP {answer.status_code}).")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as kit:
            kit.extractall(home)
        (home / "start.sh").chmod(0o755)

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

    def wait_for_question(self, site: DemoSite) -> None:
        """Wait until the run waits for this site alone: the others have approved by their rule."""
        dana, waits = self.person("data_scientist"), list[str]()
        for _ in self._patience(
            RUN_LIMIT_S, lambda: f"the run to wait for {site.name} alone, not for {waits}"
        ):
            self.run = dana.json(f"/runs/{self.run_id}/data.json")
            waits[:] = [name for name, state in self.run["approvals"].items() if state == "WAITING"]
            if waits == [site.name]:
                return
            self._raise_if_over()

    def approve_by_hand(self, site: DemoSite) -> int:
        """Operator: sign in to the console, read, approve; how many tensors the page listed."""
        operator = Operator(*self.machine.console(self.machine.sites_home / site.name))
        for _ in self._patience(60, f"the request to reach {site.name}"):
            if operator.is_asked(self.run_id):
                break
        listed = operator.tensors(self.run_id)
        operator.approve(self.run_id, username("site_operator", site))
        return listed

    def wait_for_hand(self, site: DemoSite) -> None:
        """Tell the person at this terminal where to approve, and wait for it."""
        address, passphrase = self.machine.console(self.machine.sites_home / site.name)
        self.say(f"the run waits for {site.title}: open {address}runs/ and approve it")
        self.say(f"passphrase of that console: {passphrase}")
        dana = self.person("data_scientist")
        for _ in self._patience(HAND_LIMIT_S, f"{site.title} to answer", pause_s=2):
            self.run = dana.json(f"/runs/{self.run_id}/data.json")
            self._raise_if_over()
            if self.run["approvals"][site.name] != "WAITING":
                return

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
            self._raise_if_over()

    def _raise_if_over(self) -> None:
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
            with suppress(httpx.TimeoutException):  # the first answer, on a busy machine
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

    def compare_sides(self) -> dict[str, int]:
        """Auditor: site → rounds in which, by both logs, the portal received the very bytes it sent."""
        homes = {site.name: self.machine.sites_home / site.name for site in self.study.sites}
        return both_sides.compare(self.person("auditor"), self.run_id, homes, self.machine.folder)

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


def _shown(page: str, name: str) -> str:
    """The value of the field with this id. Raises RefusedError when the page has none."""
    marker = page.find(f'id="{name}"')
    if marker < 0:
        raise RefusedError(f"The portal showed no {name}.")
    element = page[page.rfind("<", 0, marker) : page.find(">", marker)]
    return element.split('value="', 1)[1].split('"', 1)[0]


def username(role: str, site: DemoSite | None) -> str:
    """``ann``, ``dana``, ``otto``; ``cleo-<site>`` and ``ivan-<site>`` for people who belong to a site."""
    if role in USERNAMES:
        return USERNAMES[role]
    prefix = "cleo" if role == "clinician" else "ivan"
    return f"{prefix}-{site.name}" if site else prefix
