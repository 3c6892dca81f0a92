"""The pipeline that `headway init` writes: it runs as it is, and shows what there is to change."""

from __future__ import annotations

from typing import Final

_TEMPLATE: Final = """\
# A pipeline: jobs that wait for each other, each a list of steps. `headway run` runs it.
# Every key that this version acts on is in docs/pipeline.md; one it does not know is an error, never ignored.

# How the pipeline is called. Without it, the file's name is taken.
name: hello

# Variables of every job. A value stays as it is written: 3.10 is "3.10", yes is "yes".
global_env:
  GREETING: Hello

jobs:
  build:
    # A step is a command, or a mapping with `script` and more. All steps of a job share one private copy of the tree.
    steps:
      - echo "$GREETING from $HEADWAY_JOB, attempt $HEADWAY_ATTEMPT"
      - name: choose a version
        # What is written to $HEADWAY_ENV is a variable in the steps that follow.
        script: echo "VERSION=1.0" >> "$HEADWAY_ENV"
      - name: build
        script:
          - mkdir -p out
          - echo "built $VERSION" > out/version.txt
          - cat out/version.txt

  test:
    # Waits until `build` has succeeded. Jobs that do not wait for each other run side by side.
    depends_on: [build]
    # The job's limit; longer is a failure. Whole seconds, or 90s, 10m, 1h30m.
    timeout: 10m
    # How many new attempts follow a failed one.
    retry_count: 1
    # Only a runner that was started with all of these labels (`headway runners start --labels gpu`) takes the job.
    # runs_on: [gpu]
    environment:
      SUITE: quick
    steps:
      - name: test
        # bash (the default), sh or python.
        shell: bash
        script: |
          for number in 1 2 3; do
            echo "$SUITE test $number passed"
          done
      - name: tidy
        script: rm -rf out
        # A failure of this step does not fail the job.
        continue_on_failure: true
"""


def template() -> str:
    """The text of a first headway.yml."""
    return _TEMPLATE
