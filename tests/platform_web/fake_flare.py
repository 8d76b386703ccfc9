"""NVFlare as the workers see it, without NVFlare: the gateway's protocol over plain lists and folders."""

import json
import shutil

from platform_web.federation.errors import FlareRefusedError


class FakeFlare:
    def __init__(self):
        self.lines = []
        self.status = "RUNNING"
        self.submitted = {}
        self.aborted = []
        self.results = None

    def submit(self, folder, token):
        """The same token finds the same job, as NVFlare's submit token does."""
        meta = json.loads((folder / "meta.json").read_text())
        self.submitted.setdefault(token, meta)
        return f"job-{token}"

    def journal(self, job_id, since):
        if self.status != "RUNNING":
            raise FlareRefusedError("The job does not run.")
        return self.lines[since:], len(self.lines)

    def job_status(self, job_id):
        return self.status

    def abort(self, job_id):
        self.aborted.append(job_id)

    def download(self, job_id, destination):
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
