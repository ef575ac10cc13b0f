# The service and its default model, without what trained it. docs/container.md says how to run it.
#
# It builds with BuildKit and with the classic builder alike: no syntax line, no cache mounts.

# --- the virtual environment, without what serving does not open -----------------------------------
FROM python:3.13-slim-trixie AS build

# --without-pip: the base's own pip fills it from outside, so that the image needs no second one.
# Every package has a wheel: nothing is compiled, and no package runs code of its own here.
RUN /usr/local/bin/python3 -m venv --without-pip /opt/venv
COPY requirements/serve.txt requirements/otel.txt requirements/parquet.txt /build/
# Extras that the image gets: --build-arg EXTRAS="otel parquet". Their locks agree with the first.
ARG EXTRAS=
RUN set -- --requirement /build/serve.txt \
 && for extra in $EXTRAS; do set -- "$@" --requirement "/build/$extra.txt"; done \
 && /usr/local/bin/python3 -m pip --python /opt/venv/bin/python --disable-pip-version-check \
    install --no-cache-dir --no-compile --root-user-action ignore --require-hashes \
    --only-binary=:all: "$@"

# What no part of serving opens. The largest is onnxruntime's library for C programs: the Python
# module has the whole engine inside and does not link to it. That nothing of this is missed is tried
# below, where the finished image imports the service, and by the container tests.
RUN cd /opt/venv/lib/python3.*/site-packages \
 && rm -rf onnxruntime/capi/libonnxruntime.so* \
           onnxruntime/backend onnxruntime/datasets onnxruntime/quantization \
           onnxruntime/tools onnxruntime/transformers \
           numpy/f2py numpy/_core/include numpy/_core/lib numpy/_core/*_tests.*.so \
           numpy/random/_examples numpy/random/lib numpy/_pyinstaller \
           /opt/venv/bin/f2py /opt/venv/bin/numpy-config /opt/venv/bin/onnxruntime_test \
 && find . -type d -name tests -prune -exec rm -rf {} + \
 && find . -type f -regex '.*\.\(c\|h\|pxd\|pxi\|pyi\|pyx\)' -delete

# Compiled here, once: a container with a read-only root would compile at every start and in every
# worker. Unchecked, because nobody edits these files.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

COPY docker/healthcheck.py /app/healthcheck.py
COPY models/default.onnx /app/models/default.onnx
COPY service /app/service
# Readable for any user, whatever the permissions in the checkout were.
RUN chmod -R u=rwX,go=rX /app \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app

# --- what runs -------------------------------------------------------------------------------------
FROM python:3.13-slim-trixie

ENV LABELSERVE_HOST=0.0.0.0 \
    ORT_DISABLE_TELEMETRY=1 \
    OPENBLAS_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app

# The official base has no bytecode of Python's own library. Importing everything once, while this may
# still write, leaves that of the modules in use, and proves that nothing was cut that is needed.
RUN python -c 'import http.client, importlib, pkgutil, gunicorn.app.wsgiapp, PIL.Image, service; \
    PIL.Image.init(); \
    [importlib.import_module(m.name) for m in pkgutil.walk_packages(service.__path__, "service.")]'

# From here on nothing can or should write bytecode.
ENV PYTHONDONTWRITEBYTECODE=1

# By number, so that Kubernetes' runAsNonRoot can tell; no such user has to exist, nor a home.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/opt/venv/bin/python", "-I", "-S", "/app/healthcheck.py"]

# No shell in between: SIGTERM reaches the service itself. `docker run … predict MODEL FILES` works too.
ENTRYPOINT ["/opt/venv/bin/python", "-m", "service"]
CMD ["serve"]

# Last, because a new revision should not make the layers above anew. `make image` fills these in; the
# address of the sources is yours to give (SOURCE=).
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="labelserve" \
      org.opencontainers.image.description="Images in, calibrated per-label probabilities out, over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.documentation="${SOURCE:+$SOURCE#readme}" \
      org.opencontainers.image.base.name="python:3.13-slim-trixie" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"
