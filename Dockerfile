# One image for every role: `docker run nightmail api`, `... smtp`, `... worker`. Nothing in it can be written to.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock requirements-s3.lock ./
RUN python -m venv /opt/nightmail \
    && /opt/nightmail/bin/pip install --no-cache-dir --require-hashes -r requirements.lock -r requirements-s3.lock
COPY . ./
RUN /opt/nightmail/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/nightmail --create-home nightmail
COPY --from=build /opt/nightmail /opt/nightmail
ENV PATH=/opt/nightmail/bin:$PATH PYTHONDONTWRITEBYTECODE=1 NIGHTMAIL_DATA_DIR=/var/lib/nightmail NIGHTMAIL_HOST=0.0.0.0
USER 10001
VOLUME /var/lib/nightmail
ENTRYPOINT ["nightmail"]
CMD ["--help"]
