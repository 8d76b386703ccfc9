from django.db import migrations


def carry_over(apps, schema_editor):
    """Runs of before: the server saw their updates, and each had exactly one NVFlare job."""
    run_model, job_model = apps.get_model('training', 'Run'), apps.get_model('training', 'RunJob')
    run_model.objects.update(server_sees_updates=True)
    for run in run_model.objects.exclude(spec__isnull=True):
        job_model.objects.create(
            run=run,
            epoch=run.epoch,
            sites=sorted(run.sites.values_list('name', flat=True)),
            job_id=run.nvflare_job_id,
            handed_over=run.created if run.nvflare_job_id else None,
            submitted=run.created if run.nvflare_job_id else None,
            ended=run.ended,
        )


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0002_resuming'),
    ]

    operations = [
        migrations.RunPython(carry_over, migrations.RunPython.noop),
    ]
