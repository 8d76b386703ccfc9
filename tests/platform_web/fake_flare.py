"""NVFlare as the workers see it, without NVFlare: the gateway's protocol over plain lists and folders.

Like the server, it keeps one journal per run: a later job of the run goes on in the same lines.
"""

import json
import shutil

from platform_web.federation.errors import FlareRefusedError


class FakeFlare:
    def __init__(self):
        self.lines = []
        self.status = "RUNNING"
        self.statuses = {}  # job → status, where jobs differ
        self.mute = False  # the job does not answer for its journal
        self.submitted = {}
        self.aborted = []
        self.asked_to_end = []
        self.refused = {}  # site → why its client did not take the job
        self.results = None

    def submit(self, folder, token):
        """The same token finds the same job, as in NVFlare; other contents are a conflict."""
        meta = json.loads((folder / "meta.json").read_text())
        server = json.loads((folder / "app_server" / "config" / "config_fed_server.json").read_text())
        job = {**meta, "arguments": server["workflows"][0]["args"]}
        if self.submitted.setdefault(token, job) != job:
            raise FlareRefusedError("The token was used for another job.")
        return f"job-{token}"

    def journal(self, job_id, since):
        if self.mute or self.job_status(job_id) != "RUNNING":
            raise FlareRefusedError("The job does not run.")
        return self.lines[since:], len(self.lines)

    def job_status(self, job_id):
        return self.statuses.get(job_id, self.status)

    def abort(self, job_id):
        self.aborted.append(job_id)

    def refused_at(self, job_id):
        return self.refused

    def end_at_boundary(self, job_id, reason):
        self.asked_to_end.append((job_id, reason))

    def download(self, job_id, destination):
        if self.results is None:
            raise FlareRefusedError("There is no result.")
        shutil.copytree(self.results, destination / job_id)
        return destination / job_id

    def leave_results(self, folder, lines, files):
        """What download_job_result would bring: the journal and the shared parts by digest."""
        target = folder / "workspace" / "consilium"
        (target / "artifacts" / "sha256").mkdir(parents=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (target / "journal.jsonl").write_text(text)
        for digest, content in files.items():
            (target / "artifacts" / "sha256" / digest).write_bytes(content)
        self.results = folder
