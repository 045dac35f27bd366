# `make demo` and `make test` start from a bare python3 with pip; the environment is made once, in .venv.
PYTHON ?= python3
STORAGE ?= sqlite:///outputs/studies.db
BIN := .venv/bin
READY := .venv/ready
# Where an image sets this, each process compiles all it imports anew, which takes longer than the import.
unexport PYTHONDONTWRITEBYTECODE

MODEL ?= models:/ddpm@champion
SEED ?= 0

.PHONY: demo test check soak ui dashboard server serve
demo: $(READY)  # without Muon, which takes a quarter longer on 8 x 8 pixels and brings nothing there
	$(BIN)/python experiments/compare.py --dataset digits --n-real 200 --seeds 3 --num-synthetic 2000 --name demo \
		--methods ddpm gan vae \
		--classifier.steps 200 --ddpm.steps 800 --ddpm.kernel-learning-rate 0 --vae.steps 1000 \
		--vae.kl-weight 0.5 --gan.steps 1500
	$(BIN)/python -m analysis.accuracy_table

test: $(READY)
	$(BIN)/python -m pytest

soak: $(READY)  # bounded: the long tests, 10 kills of each method on one and on two processes, then a study's workers
	$(BIN)/python -m pytest -m long --hypothesis-seed $(SEED)
	$(BIN)/python tests/soak.py --kills 10 --seed $(SEED)
	$(BIN)/python tests/study_soak.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

ui: $(READY)  # it says first where the newest comparison is shown; SOCKET=1: as dashboard
	-@$(BIN)/python -m harness.tracking page
	@$(say)
	$(BIN)/mlflow --env-file mlflow.env ui --backend-store-uri sqlite:///outputs/mlflow.db --host 127.0.0.1 --workers 1 \
		$(if $(SOCKET),--uvicorn-opts "--uds $(PRIVATE)/ui")

dashboard: $(READY)  # studies as they run: make dashboard STORAGE=postgresql://USER@HOST/studies
	@$(say)
	$(if $(SOCKET),$(BIN)/gunicorn --bind unix:$(PRIVATE)/dashboard 'optuna_dashboard:wsgi("$(STORAGE)")',\
		$(BIN)/optuna-dashboard $(STORAGE) --host 127.0.0.1)

PRIVATE := outputs/private
OPEN = every user of this machine may open it and delete what it shows: make $@ SOCKET=1 listens where you alone may
CLOSED = from your own machine: ssh -NL 8000:$(CURDIR)/$(PRIVATE)/$@ HOST, then http://127.0.0.1:8000
say = $(if $(SOCKET),install -d -m 700 $(PRIVATE) && echo "$(CLOSED)",echo "$(OPEN)")

server: $(READY)  # for a team: MLFLOW_TRACKING_USERNAME and _PASSWORD name its administrator, HARNESS_DATABASE_URL its database
	$(BIN)/python -m harness.tracking.server

serve: $(READY)  # a generator that answers requests: make serve MODEL=models:/vae@champion
	$(BIN)/python -m harness.tracking.serving $(MODEL)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@
